"""Load benchmarks: what the proxy costs, paired with no proxy at all, with nginx, and with rivals.

__main__        argv → cases, results, exit code
contenders      the table of what is measured; `rivals/` has the rivals' configurations and pinned versions
install         what a run needs, and the rivals, each in a folder of its own
json_case       throughput of small JSON requests, as a ratio to nginx
sse_case        CPU per relayed chunk of a stream, and the delay added to it
memory_case     resident memory, idle and with many open streams
latency_case    latency added at a modest fixed rate
growth_case     time and CPU of a request against the size of its body
faults_case     what it takes to rescue a tenth of all requests
lifetime_case   start, idle memory, memory over a million requests
agents_case     5, 500 and 5,000 agents, and a reload
everything      the policy with everything on, and what the last five cases share
chat            chat requests, and a client that sends them at a fixed rate
json_upstream   a server of fixed answers that reads whole bodies, and fails on demand
upstream_client micro benchmark: our upstream client beside aiohttp's
sse_upstream    a server that streams stamped chunks
sse_client      a client that reads them and knows how late each one is
wrk_load        one round of wrk, checked
lineup          brings the upstream and the contenders up
fleet           the processes a case starts, pins, measures and ends
plan            what one run was asked to do
report          tables, result files, machine facts
picture         a result's ratios as SVG
page            the generated parts of docs/performance.md
spread          medians and percentiles
"""

-- 1.5 kB chat completions of 200 users; prints one machine-readable line at the end.
-- With an argument N the requests are those of the agents agent-0 … agent-(N-1), in turn.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer sk-bench"
wrk.headers["X-Agent"] = "legal_agent"

local words = string.rep("Please summarise the following paragraph about contract law in plain language. ", 16)
local bodies = {}
for i = 0, 199 do
  bodies[i] = '{"model":"legal_agent","messages":[{"role":"system","content":"You are the legal agent."},{"role":"user","content":"'
    .. words .. '"}],"temperature":0.7,"max_tokens":256,"user":"user-' .. i .. '"}'
end

local agents
init = function(args)
  agents = tonumber(args[1])
end

local n = 0
request = function()
  n = n + 1
  if agents then
    wrk.headers["X-Agent"] = "agent-" .. n % agents
  end
  local user = n % 200
  wrk.headers["X-User-Id"] = "user-" .. user
  return wrk.format(nil, wrk.path, nil, bodies[user])
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'bench-result {"requests":%d,"duration_us":%d,"p50_us":%.1f,"p99_us":%.1f,'
      .. '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end

"""More requests than there is room for: `python -m bench.overload`.

A real `splitlane serve` whose capacity is known: so many requests in flight, of an upstream that takes a
fixed time.  One agent offers 1, 2, 5 and 10 times that, whatever the answers are, another one a tenth of it.

Exit codes: 0 all laws hold, 1 one is broken or the proxy ended, 130 interrupted.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from bench.caller import Answer, calling, offer
from bench.plan import BenchError
from bench.report import Column, Outcome, document, progress, table, write
from bench.served import Proxy, serving
from bench.spread import percentile
from proxy.stub import Stub, StubConfig

FACTORS = (1, 2, 5, 10)
# What the quiet agent asks for, of the capacity.
QUIET = 0.1
# With less room, there is none to keep free for others.
FAIR_FROM = 20
# What being refused may take, as a median, and what a served request may take besides twice its upstream's time.
PATIENCE_MS = 100.0

COLUMNS = (
    Column("factor", "offered, of capacity"),
    Column("offered", "requests/s", "{:.0f}"),
    Column("goodput", "served/s", "{:.1f}"),
    Column("quiet", "quiet agent served", "{:.0%}"),
    Column("p50_ms", "served p50 ms", "{:.0f}"),
    Column("p99_ms", "served p99 ms", "{:.0f}"),
    Column("refused_p50_ms", "refused p50 ms", "{:.1f}"),
    Column("refused_p99_ms", "refused p99 ms", "{:.1f}"),
    Column("retry_after", "with Retry-After", "{:.0%}"),
    Column("other", "neither"),
    Column("rss_mib", "memory MiB", "{:.1f}"),
)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of load at each rate (10)")
    parser.add_argument("--in-flight", type=int, default=32, help="requests that there is room for (32)")
    parser.add_argument("--latency", type=float, default=1.0, help="seconds that the upstream takes (1)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def request_of(agent: bytes) -> bytes:
    """A chat of that agent's."""
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % (b"word " * 300)
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"x-agent: %b\r\nx-user-id: u\r\nContent-Length: %d\r\n\r\n%b" % (agent, len(body), body)
    )


async def measure(in_flight: int, latency: float, seconds: float, factors: Sequence[int] = FACTORS) -> Outcome:
    """All rates, one after the other."""
    capacity = in_flight / latency
    with tempfile.TemporaryDirectory(prefix="splitlane-overload-") as folder:
        async with Stub(StubConfig(latency=latency, max_calls=100)) as stub:
            path = Path(folder, "policy.yaml")
            agents = {name: {"fine_tuned": f"ft:{name}", "fallback": "m"} for name in ("loud", "quiet")}
            path.write_text(
                yaml.safe_dump(
                    {
                        "environment": "overload",
                        "upstreams": {"up": {"base_url": stub.url, "api_key": "k"}},
                        "agents": agents,
                        "ab_testing": {"enabled": True, "rollout_percentage": 50},
                        "limits": {"max_in_flight": in_flight},
                    }
                )
            )
            async with serving(path) as proxy:
                rows = []
                for factor in (1, *factors):  # the first one warms up, and is not kept
                    progress(f"overload: {factor} times {capacity:.0f} requests a second")
                    rows.append(await _offer(proxy, factor, capacity, seconds))
                if code := await proxy.end():
                    raise BenchError(f"the proxy ended with {code}: {proxy.log.decode(errors='replace')[-2000:]}")
    settings = {"max_in_flight": in_flight, "latency_ms": round(latency * 1000), "capacity": round(capacity)}
    return Outcome("overload", settings, COLUMNS, rows[1:])


async def _offer(proxy: Proxy, factor: int, capacity: float, seconds: float) -> dict[str, object]:
    answers: dict[str, list[Answer]] = {"loud": [], "quiet": []}
    async with calling(proxy.data) as caller:

        async def send(agent: str, due: float) -> None:
            try:
                answers[agent].append(await caller.ask(request_of(agent.encode()), due))
            except OSError:
                answers[agent].append(Answer())

        started = time.perf_counter()
        await asyncio.gather(
            offer(capacity * factor, seconds, lambda due: send("loud", due)),
            offer(capacity * QUIET, seconds, lambda due: send("quiet", due)),
        )
        took = time.perf_counter() - started
    every = answers["loud"] + answers["quiet"]
    served = [each.seconds * 1000 for each in every if each.status == 200 and each.whole]
    refused = [each for each in every if each.status == 503]
    times = [each.seconds * 1000 for each in refused] or [0.0]
    quiet = [each.status == 200 for each in answers["quiet"]]
    return {
        "factor": factor,
        "offered": len(every) / seconds,
        "goodput": len(served) / took,
        "quiet": sum(quiet) / len(quiet),
        "p50_ms": percentile(served, 0.5),
        "p99_ms": percentile(served, 0.99),
        "refused_p50_ms": percentile(times, 0.5),
        "refused_p99_ms": percentile(times, 0.99),
        "retry_after": sum(each.retry_after for each in refused) / len(refused) if refused else 1.0,
        "other": len(every) - len(served) - len(refused),
        "rss_mib": proxy.rss_kib() / 1024,
    }


def broken_laws(outcome: Outcome, *, patience_ms: float) -> list[str]:
    """What does not hold; `patience_ms` is how long being refused may take, as a median."""
    problems = []
    rows: list[dict[str, float]] = outcome.rows  # type: ignore[assignment]
    peak = max(row["goodput"] for row in rows)
    latency = outcome.settings["latency_ms"]
    for row in rows:
        at = f"at {row['factor']} times the capacity"
        if row["factor"] > 1 and row["goodput"] < 0.8 * peak:
            problems.append(f"{at} {row['goodput']:.1f} a second are served, of {peak:.1f} at the best")
        if row["p99_ms"] > 2 * latency + patience_ms:
            problems.append(f"{at} p99 of the served is {row['p99_ms']:.0f} ms, of an upstream that takes {latency} ms")
        if row["refused_p50_ms"] > patience_ms:
            problems.append(f"{at} being refused takes {row['refused_p50_ms']:.1f} ms")
        if row["retry_after"] < 1 or row["other"]:
            problems.append(f"{at} {row['other']:.0f} have another end, {row['retry_after']:.0%} a Retry-After")
        if row["quiet"] < 0.8 and outcome.settings["max_in_flight"] >= FAIR_FROM:
            problems.append(f"{at} of one agent, only {row['quiet']:.0%} of the other one's are served")
    grown = rows[-1]["rss_mib"] - rows[0]["rss_mib"]
    if grown > 8:
        problems.append(f"memory has grown by {grown:.1f} MiB")
    return problems


def main() -> int:
    """Entry point; the exit code."""
    options = arguments().parse_args()
    try:
        outcome = asyncio.run(measure(options.in_flight, options.latency, options.seconds))
    except BenchError as error:
        progress("")
        print(f"overload: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        return 130
    progress("")
    problems = broken_laws(outcome, patience_ms=PATIENCE_MS)
    content = document(outcome, quick=options.seconds < 10) | {"problems": problems}
    where = write(content)
    print(json.dumps(content, indent=1) if options.json else f"{table(outcome)}\nwritten to {where}")
    for problem in problems:
        print(f"overload: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

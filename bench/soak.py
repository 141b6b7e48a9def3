"""Ten minutes of an ordinary bad day: `python -m bench.soak`, `make soak`, `make soak MINUTES=60`.

A real `splitlane serve` with a store, at half of the load that it and this program can carry together;
fine-tunes that fail, clients that leave, policies that are reloaded, a store that goes away and comes back.
Each second its memory, tasks, descriptors and the ledger's queue are looked at.

Exit codes: 0 all laws hold, 1 one is broken or the proxy ended, 130 interrupted.
"""

import argparse
import asyncio
import json
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

import yaml

from bench.caller import Caller, calling, offer
from bench.plan import BenchError
from bench.report import Column, Outcome, document, progress, table, write
from bench.served import Proxy, serving
from bench.soak_laws import Sample, Sums, broken_laws, growth
from proxy.stub import Stub, StubConfig

# Half of the users are fine-tuned: a tenth of their calls is a twentieth of all.
FAULTS = {
    "ft:qa*": "status=500",
    "ft:content*": "reset",
    "ft:legal*": "empty",
    "ft:support*": "cut=0",
    "ft:analyst*": "status=429",
}
AGENTS = ("qa", "content", "legal", "support", "analyst")
LATENCY = 0.03
LEAVE = 0.05
BREAK = 0.01  # of all: streams that the upstream breaks off after content, which nothing can rescue
STREAMS = 0.25
PASSED = 0.05
CALIBRATE = 2.0
CALLERS = 16
# Requests at once, before anything is measured: memory follows the highest peak there was, and later ones are lower.
BURST = 500
SETTLE = 30.0

COLUMNS = (
    Column("seconds", "seconds", "{:.0f}"),
    Column("rss_mib", "memory MiB", "{:.1f}"),
    Column("tasks", "tasks"),
    Column("descriptors", "descriptors"),
    Column("in_flight", "in flight"),
    Column("enqueued", "enqueued"),
    Column("written", "written"),
    Column("queued", "queued"),
    Column("dropped", "dropped"),
)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of load (10)")
    parser.add_argument("--seconds", type=float, help="of load, instead")
    parser.add_argument("--load", type=float, default=0.5, help="share of what can be carried (0.5)")
    parser.add_argument("--rate", type=float, help="requests a second, instead")
    parser.add_argument(
        "--postgres", action="store_true", help="PostgreSQL, which is stopped; else SQLite, whose disk is full"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def policy(url: str, store: str, percentage: float) -> str:
    """The policy's file: five agents, half of the users fine-tuned."""
    return yaml.safe_dump(
        {
            "environment": "soak",
            "upstreams": {"up": {"base_url": url, "api_key": "k", "pool": {"keepalive": "500ms"}}},
            "agents": {f"{each}_agent": {"fine_tuned": f"ft:{each}", "fallback": "m"} for each in AGENTS},
            "ab_testing": {"enabled": True, "rollout_percentage": percentage},
            "rollout": {"brake": {"enabled": False}},  # or the faults would be over after a minute
            "fallback": {"breaker": {"failures": 50}},
            "store": {"url": store, "unit_key": "one-key-for-all-proxies-of-a-server"},
            "prices": {"*": {"input": 0.1, "output": 0.2}},
        }
    )


class Soak:
    """The load, and what it found."""

    def __init__(self, caller: Caller) -> None:
        self.sums = Sums()
        self._caller = caller
        self._chance = random.Random(7)

    async def send(self, due: float) -> None:
        """One request of the mix."""
        chance, sums = self._chance, self.sums
        sums.sent += 1
        leave = chance.uniform(0.01, 0.06) if chance.random() < LEAVE else None
        if chance.random() < PASSED:
            breaks, request = False, b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
        else:
            stream = chance.random() < STREAMS
            breaks = stream and chance.random() < BREAK / STREAMS
            request = _chat(chance, stream=stream, breaks=breaks)
        try:
            answer = await self._caller.ask(request, due, leave)
        except OSError:
            sums.lost += 1
            return
        if answer.status == 499:
            sums.left += 1
        elif breaks and answer.status == 200 and not answer.whole:
            sums.broken += 1
        elif answer.status == 200 and answer.whole and not breaks:
            sums.answered += 1
        else:
            sums.lost += 1


def _chat(chance: random.Random, *, stream: bool, breaks: bool) -> bytes:
    user = chance.randrange(5000)
    body = json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "word " * chance.randrange(1, 400)}]}
    ).encode()
    fault = b"x-stub-fault: cut=4\r\n" if breaks else b""
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"x-agent: %b_agent\r\nx-user-id: user-%d\r\n%bContent-Length: %d\r\n\r\n"
        % (chance.choice(AGENTS).encode(), user, fault, len(body))
    ) + body


async def capacity(caller: Caller) -> float:
    """Requests a second that `CALLERS` callers get who wait for each answer."""
    soak = Soak(caller)
    end = time.perf_counter() + CALIBRATE

    async def keep_asking() -> None:
        while (now := time.perf_counter()) < end:
            await soak.send(now)

    await asyncio.gather(*(keep_asking() for _ in range(CALLERS)))
    return soak.sums.sent / CALIBRATE


async def look(proxy: Proxy, started: float) -> Sample:
    """The proxy now."""
    found = await proxy.metrics()
    enqueued, written, dropped = (
        int(found[f"splitlane_ledger_{name}_total"]) for name in ("enqueued", "written", "dropped")
    )
    return Sample(
        time.perf_counter() - started,
        proxy.rss_kib() / 1024,
        int(found["splitlane_tasks"]),
        proxy.descriptors(),
        int(found["splitlane_in_flight"]),
        enqueued,
        written,
        dropped,
        int(found["splitlane_ledger_queued"]),
    )


def at_rest(now: Sample, base: Sample) -> bool:
    """Whether nothing is left of the load."""
    return not now.queued and now.tasks <= base.tasks and now.descriptors <= base.descriptors


class Store:
    """Where records go, and how it goes away."""

    def __init__(self, folder: Path, stack: ExitStack, *, postgres: bool) -> None:
        self.url = f"sqlite:///{folder}/soak.db"
        self._server = None
        if postgres:
            from tests.support.postgres import PostgresServer  # noqa: PLC0415 only where it is asked for

            self._server = stack.enter_context(PostgresServer())
            self.url = self._server.new_database()

    async def away(self, proxy: Proxy, seconds: float) -> None:
        """Out for that long: the server is stopped, or the disk takes no more from the writer."""
        if self._server is not None:
            await asyncio.to_thread(self._server.down)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._server.up)
            return
        children = proxy.children()
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in children}
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, hard))
        await asyncio.sleep(seconds)
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def rows(self) -> int:
        """Requests kept."""
        from proxy.ledger.open import open_database  # noqa: PLC0415 psycopg is only there where it is asked for

        with closing(open_database(self.url, read_only=True)) as database:
            return int(str(database.execute("SELECT count(*) FROM requests")[0][0]))


async def repeat(every: float, seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    """`act()` every so often, within `seconds`."""
    end = time.perf_counter() + seconds
    while time.perf_counter() + every < end:
        await asyncio.sleep(every)
        await act()


async def soak(options: argparse.Namespace, seconds: float) -> tuple[Outcome, list[str]]:
    """Run it; the table, and the laws that are broken."""
    with ExitStack() as things:
        folder = Path(things.enter_context(tempfile.TemporaryDirectory(prefix="splitlane-soak-")))
        store = Store(folder, things, postgres=options.postgres)
        path = folder / "policy.yaml"
        async with AsyncExitStack() as stack:
            faults = {model: f"{fault},probability=0.1" for model, fault in FAULTS.items()}
            stub = await stack.enter_async_context(Stub(StubConfig(latency=LATENCY, faults=faults, max_calls=100)))
            path.write_text(policy(stub.url, store.url, 50))
            proxy = await stack.enter_async_context(serving(path))
            caller = await stack.enter_async_context(calling(proxy.data))
            return await _measure(options, seconds, stub, store, path, proxy, caller)


async def _measure(
    options: argparse.Namespace, seconds: float, stub: Stub, store: Store, path: Path, proxy: Proxy, caller: Caller
) -> tuple[Outcome, list[str]]:
    work, samples = Soak(caller), list[Sample]()
    sums = work.sums
    now = time.perf_counter()
    await asyncio.gather(*(Soak(caller).send(now) for _ in range(min(BURST, int(20 * seconds)))))
    peak = 0.0 if options.rate else await capacity(caller)
    rate = options.rate or peak * options.load
    await caller.close()
    await asyncio.sleep(1.0)
    before = await proxy.metrics()
    started = time.perf_counter()
    base = await look(proxy, started)

    async def take_sample() -> None:
        samples.append(await look(proxy, started))
        left = seconds - samples[-1].seconds
        progress(f"soak: {left:4.0f} s left, {sums.sent} sent, {sums.lost} lost, {samples[-1].rss:.1f} MiB")

    async def reload() -> None:
        sums.reloads += 1
        path.write_text(policy(stub.url, store.url, 50 + sums.reloads % 2))
        await proxy.ask_admin("/policy/reload", "POST")

    async def outage() -> None:
        sums.outages += 1
        await store.away(proxy, min(10.0, seconds / 10))

    await asyncio.gather(
        offer(rate, seconds, work.send),
        repeat(max(0.2, min(1.0, seconds / 60)), seconds, take_sample),
        repeat(min(5.0, seconds / 5), seconds, reload),
        repeat(min(90.0, seconds / 3), seconds, outage),
    )
    await caller.close()
    deadline = time.perf_counter() + SETTLE  # for what an outage has left behind, and idle connections
    while not at_rest(end := await look(proxy, started), base) and time.perf_counter() < deadline:
        await asyncio.sleep(0.1)
    after = await proxy.metrics()
    outcomes = int(after["model_requests_total"] - before.get("model_requests_total", 0.0))
    already = int(before["splitlane_ledger_enqueued_total"])
    if code := await proxy.end():
        raise BenchError(f"the proxy ended with {code}: {proxy.log.decode(errors='replace')[-2000:]}")
    problems = broken_laws(samples, base, end, sums, outcomes, store.rows() - already)
    case = "soak-postgresql" if options.postgres else "soak"
    return _outcome(case, seconds, rate, samples, base, end, sums, outcomes), problems


def _outcome(
    case: str, seconds: float, rate: float, samples: list[Sample], base: Sample, end: Sample, sums: Sums, outcomes: int
) -> Outcome:
    shown = [base, *samples[:: max(1, len(samples) // 20)], end]
    rows: list[dict[str, object]] = [
        {column.key: value for column, value in zip(COLUMNS, _row(each), strict=True)} for each in shown
    ]
    grown = growth(samples)
    notes = [
        f"{sums.sent} requests: {sums.answered} answered, {sums.left} left by their clients, {sums.lost} lost",
        f"{sums.broken} more broken off by the upstream after content, and visibly so; {outcomes} outcomes",
        f"{sums.reloads} reloads, {sums.outages} outages of the store, {end.dropped - base.dropped} records lost",
        "memory: too short a run for a slope"
        if grown is None
        else f"memory grows by {grown.value:.2f} ± {grown.half:.2f} MiB an hour (95 %)",
    ]
    settings = {"seconds": round(seconds), "requests_per_second": round(rate)}
    return Outcome(case, settings, COLUMNS, rows, notes)


def _row(each: Sample) -> tuple[object, ...]:
    return (
        each.seconds, each.rss, each.tasks, each.descriptors, each.in_flight, each.enqueued, each.written, each.queued,
        each.dropped,
    )  # fmt: skip


def main() -> int:
    """Entry point; the exit code."""
    options = arguments().parse_args()
    seconds = options.seconds or options.minutes * 60
    try:
        outcome, problems = asyncio.run(soak(options, seconds))
    except (BenchError, sqlite3.Error) as error:
        progress("")
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        return 130
    progress("")
    content = document(outcome, quick=seconds < 300) | {"problems": problems}
    where = write(content)
    if options.json:
        print(json.dumps(content, indent=1))
    else:
        print(f"{table(outcome)}\n")
        for note in outcome.notes:
            print(f"note: {note}")
        print(f"written to {where}")
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

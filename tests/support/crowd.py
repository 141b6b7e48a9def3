"""Clients that ask a running proxy without a pause, on kept and on fresh connections, and count how that ends.

async with crowd(proxy) as seen:
    ...
assert not seen.failed
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.integration.asking import chat
from tests.support.raw_client import RawClient, RawResponse
from tests.support.served import Served

_GONE = (ConnectionError, asyncio.IncompleteReadError)


class Seen:
    """How requests ended."""

    def __init__(self) -> None:
        self.answered = 0
        self.failed: list[str] = []  # no answer, half of one, or not 200
        self.refused = 0  # nobody listens any more


async def once(proxy: Served, data: bytes) -> RawResponse:
    """The answer on a connection of its own."""
    async with proxy.client() as client:
        await client.send(data)
        return await client.read_response()


@asynccontextmanager
async def crowd(proxy: Served, kept: int = 4, fresh: int = 4) -> AsyncIterator[Seen]:
    """So many clients that keep their connection while they may, and so many that never do."""
    seen = Seen()
    over = False

    async def ask(client: RawClient, user: str) -> bool:
        """Whether the connection may be used again."""
        await client.send(chat(user=user))
        answer = await client.read_response()
        if answer.status == 200 and answer.clean_end:
            seen.answered += 1
        else:
            seen.failed.append(repr(answer))
        return (answer.head.get(b"connection") or b"").lower() != b"close"

    async def go_on(user: str, *, keeps: bool) -> None:
        while not over:
            try:
                async with proxy.client() as client:
                    while await ask(client, user) and keeps and not over:
                        pass
            except ConnectionRefusedError:
                seen.refused += 1
                await asyncio.sleep(0.01)
            except _GONE as error:
                seen.failed.append(repr(error))

    asking = [asyncio.create_task(go_on(f"kept-{number}", keeps=True)) for number in range(kept)]
    asking += [asyncio.create_task(go_on(f"fresh-{number}", keeps=False)) for number in range(fresh)]
    try:
        yield seen
    finally:
        over = True
        await asyncio.gather(*asking)


def workers_of(proxy: Served) -> list[int]:
    """Process ids of its workers."""
    found = []
    for task in Path(f"/proc/{proxy.pid}/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return sorted(pid for pid in found if b"proxy.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())


def runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def counted(proxy: Served) -> Counter[str]:
    """The counters of a scrape, histograms' included, by name and labels; gauges too."""
    text = (await proxy.ask_admin("/metrics")).body.decode()
    samples = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return Counter({name: float(value) for name, _, value in samples})


def total(samples: Counter[str], name: str) -> float:
    """The sum over all labels of a family."""
    return sum(value for sample, value in samples.items() if sample.partition("{")[0] == name)


def is_counter(sample: str) -> bool:
    """Whether it must never come out less."""
    return sample.partition("{")[0].endswith(("_total", "_count", "_sum", "_bucket"))

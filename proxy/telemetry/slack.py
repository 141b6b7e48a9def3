"""Notices to a Slack webhook: never in a request's way, never waited for, never for long.

- What gathers while one message is on its way, or since the last one, goes out as one.
- The same notice is sent once in ten minutes.  What finds the queue full is dropped, and counted.
- Nothing that the webhook does matters: it is given seconds, its answer is not read, redirects are not
  followed, and the process's end waits half a second for it.
- The URL grants access: no log line and no error has it, or a part of it.
"""

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Iterator

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from prometheus_client.core import CounterMetricFamily, Metric

from proxy import __version__
from proxy.tasks import blocking, spawn

log = logging.getLogger("splitlane.telemetry")

# Notices that wait; more than a person reads.
QUEUED = 64
# Seconds between two messages: Slack takes one a second, people less.
GAP = 5.0
# Seconds within which the same notice is not sent again, and how many are remembered.
REPEAT = 600.0
REMEMBERED = 256
# Seconds that one try may take, how often it is tried, and the first pause, which doubles.
TIMEOUT = 5.0
TRIES = 3
PAUSE = 2.0
# Seconds that the process's end may wait.
FAREWELL = 0.5

OUTCOMES = ("sent", "failed", "repeated", "dropped")

_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})  # all that Slack asks to be escaped


class Notices:
    """What the webhook of the active policy is told; its methods belong to the event loop."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self._webhook: str | None = None
        self._waiting: deque[str] = deque()
        self._told: OrderedDict[str, float] = OrderedDict()  # loop time by key
        self._not_before = 0.0  # loop time
        self._work: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._failing = False

    def follow(self, webhook: str | None) -> None:
        """Send to this URL from now on; None: to nobody."""
        self._webhook = webhook

    def tell(self, key: str, text: str) -> None:
        """Send `text` when there is time; `key`: what makes it the same as another."""
        if self._webhook is None:
            return
        now = asyncio.get_running_loop().time()
        last = self._told.get(key)
        if last is not None and now - last < REPEAT:
            self.outcomes["repeated"] += 1
        elif len(self._waiting) >= QUEUED or self._ending.is_set():
            self.outcomes["dropped"] += 1
        else:
            self._told[key] = now
            self._told.move_to_end(key)
            if len(self._told) > REMEMBERED:
                self._told.popitem(last=False)
            self._waiting.append(text)
            if self._work is None or self._work.done():
                self._work = spawn(self._send_all(), "notices")

    async def close(self) -> None:
        """Send what waits, within `FAREWELL`."""
        self._ending.set()
        if (work := self._work) is not None:
            await asyncio.wait([work], timeout=FAREWELL)
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
        self._drop(len(self._waiting))

    def collect(self) -> Iterator[Metric]:
        """What became of notices."""
        notices = CounterMetricFamily("splitlane_notices", "Notices by what became of them.", labels=["outcome"])
        for outcome, count in self.outcomes.items():
            notices.add_metric([outcome], count)
        yield notices

    async def _send_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._rest(self._not_before - loop.time())
            texts, self._waiting = list(self._waiting), deque()
            sent = False
            try:
                sent = await self._send("\n".join(texts))
            finally:
                self.outcomes["sent" if sent else "failed"] += len(texts)
            self._not_before = loop.time() + GAP

    async def _send(self, text: str) -> bool:
        """Whether it was taken, at the first try or a later one."""
        for number in range(TRIES):
            if (webhook := self._webhook) is None:
                return False
            reason, again = await _post(webhook, text)
            if not reason:
                if self._failing:
                    log.info("notices are taken again")
                self._failing = False
                return True
            if not self._failing:
                log.warning("a notice is not taken: %s; requests are not affected", reason)
            self._failing = True
            if not again or self._ending.is_set() or number == TRIES - 1:
                break
            await self._rest(PAUSE * 2**number)
        return False

    async def _rest(self, seconds: float) -> None:
        """Until then, or the end."""
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._ending.wait()
            except TimeoutError:
                pass

    def _drop(self, count: int) -> None:
        self.outcomes["dropped"] += count
        self._waiting.clear()


async def _post(webhook: str, text: str) -> tuple[str, bool]:
    """Why it was not taken, in words of ours, and whether it may be later; empty: it was."""
    tls = await blocking(ssl.create_default_context, "certificates")
    connector = TCPConnector(resolver=_Names(), use_dns_cache=False, force_close=True, ssl=tls)
    timeout = ClientTimeout(total=TIMEOUT)
    headers = {"User-Agent": f"splitlane/{__version__}"}
    try:
        async with (
            ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
            session.post(
                webhook, json={"text": text.translate(_MARKUP)}, headers=headers, allow_redirects=False
            ) as response,
        ):
            status = response.status
            return "" if 200 <= status < 300 else f"status {status}", status == 429 or status >= 500
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s", True
    except (ClientError, OSError, ValueError) as error:
        return type(error).__name__, True  # its text may have the URL


class _Names(AbstractResolver):
    """Names looked up on threads that nobody waits for at exit: a name server may hang."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        def look_up() -> list[tuple[socket.AddressFamily, tuple[object, ...]]]:
            found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            return [(each, address) for each, _, _, _, address in found]

        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=each, proto=0, flags=socket.AI_NUMERICHOST
            )
            for each, address in await blocking(look_up, "webhook name")
        ]

    async def close(self) -> None:
        pass

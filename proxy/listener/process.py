"""What a process that serves does to itself before it does: its event loop, its heap, its descriptors."""

import gc
import resource
from threading import Thread

try:
    import uvloop as fastest_loop
except ImportError:  # PyPy
    import asyncio as fastest_loop  # type: ignore[no-redef]

from proxy.wire.body import member_pattern

__all__ = ["NO_PARSER", "fastest_loop", "lacks_parser", "raise_descriptor_limit", "settle_heap"]

NO_PARSER = "splitlane: aiohttp's C parser is missing; install an aiohttp wheel with extensions"


def lacks_parser() -> bool:
    """Whether aiohttp's C parser is missing."""
    from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy  # noqa: PLC0415 who serves nothing has none

    return HttpRequestParser is HttpRequestParserPy


def settle_heap() -> None:
    """Take what start-up allocated out of the collector's sight, and switch it on.

    Requests leave next to no cycles, so a full collection would walk every module to free nothing,
    for tens of milliseconds: not even now.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()
    Thread(target=member_pattern, daemon=True).start()  # before a request needs it


def raise_descriptor_limit() -> None:
    """Each request takes two descriptors; the usual soft limit of 1024 is too low for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

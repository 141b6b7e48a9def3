"""What a process that serves does to itself before it does: its event loop, its heap, its descriptors."""

import gc
import resource

try:
    import uvloop as fastest_loop
except ImportError:  # PyPy
    import asyncio as fastest_loop  # type: ignore[no-redef]

__all__ = ["NO_PARSER", "fastest_loop", "lacks_parser", "raise_descriptor_limit", "settle_heap"]

NO_PARSER = "splitlane: aiohttp's C parser is missing; install an aiohttp wheel with extensions"


def lacks_parser() -> bool:
    """Whether aiohttp's C parser is missing."""
    from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy  # noqa: PLC0415 who serves nothing has none

    return HttpRequestParser is HttpRequestParserPy


def settle_heap() -> None:
    """Take what start-up allocated out of the collector's sight.

    Requests leave next to no cycles, so a full collection would walk every module to free nothing,
    for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def raise_descriptor_limit() -> None:
    """Each request takes two descriptors; the usual soft limit of 1024 is too low for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""Which event loops the tests of this folder run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Streams and faults run on the loop that production runs on, and on both where a peer's end is what matters.

    When bytes leave, and how the end of a connection is told, differ between the two loops.
    """
    del config
    module = item.path.name
    if module in ("test_stream_break.py", "test_stream_client_leaves.py", "test_stream_sound.py"):
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    if module.startswith(("test_stream_", "test_fault_")):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}

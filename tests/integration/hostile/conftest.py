"""Which event loop the tests of hostile HTTP run on."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """The loop that production runs on."""
    del config, item
    return {"uvloop": uvloop.new_event_loop}

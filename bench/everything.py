"""Splitlane with everything on but tracing, which is how its targets are meant: the policy of `features`' last row."""

import re
import time
from dataclasses import replace
from urllib.parse import urlsplit
from urllib.request import urlopen

from bench.contenders import CONTENDERS as ALL
from bench.contenders import YARDSTICK, Contender
from bench.features import BUDGETS
from bench.fleet import Process
from bench.json_case import CATCH_UP
from bench.plan import RUN

OURS = "splitlane"
STORE = f"{OURS}.db"
SECTIONS: dict[str, object] = {
    **BUDGETS,
    "observability": {"log_level": "info", "access_log": "1%"},
    "store": {"url": f"sqlite:///{RUN / STORE}"},
}
CONTENDERS = tuple(
    replace(contender, sections=SECTIONS) if contender.name == OURS else contender
    for contender in ALL
    if contender.name in ("direct", YARDSTICK, OURS)
)


def sweep() -> None:
    """Remove what runs have left in stores: a start is to find none."""
    for file in RUN.glob("*.db*"):
        file.unlink()


def verdict(what: str, value: float, limit: float, form: str = "{:g}") -> str:
    """A target beside its figure: `what` must be below `limit`."""
    return f"{what} < {form.format(limit)}: {'met' if value < limit else 'not met'}"


def metric(contender: Contender, name: str) -> float:
    """The sum of a metric's samples, over all labels."""
    parts = urlsplit(contender.ready)
    with urlopen(f"http://{parts.netloc}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))


def settle(server: Process) -> None:
    """Let the ledger's writer do what the load has left, before another contender is measured."""
    deadline = time.monotonic() + CATCH_UP
    before, now = 0, server.cpu_ns()
    while now - before > 10_000_000 and time.monotonic() < deadline:
        time.sleep(0.1)
        before, now = now, server.cpu_ns()

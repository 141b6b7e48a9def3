"""Splitlane with everything on but tracing, which is how its targets are meant: the policy of `features`' last row."""

from dataclasses import replace

from bench.contenders import CONTENDERS as ALL
from bench.contenders import YARDSTICK
from bench.features import BUDGETS
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

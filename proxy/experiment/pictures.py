"""A finding as pictures: SVG whose text is text, readable on light and on dark, the same for the same numbers.

matplotlib draws; it is an extra, imported with the first picture.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from proxy.experiment.findings import NOBODY, Course, Finding
from proxy.experiment.verdict import GateVerdict, Outcome
from proxy.experiment.verdict_page import harm_of
from proxy.ledger.report import HOUR

MISSING = "Pictures need matplotlib: pip install 'splitlane[pictures]'"
# More hours than these are told day by day.
MOST_BARS = 72

# On light, and in its place on dark; a viewer that knows no preference shows light.
_COLOURS = {
    "paper": ("#fdfdfc", "#14181d"),
    "ink": ("#24292e", "#e2e6ea"),
    "faint": ("#8b949d", "#78818b"),
    "finetuned": ("#0b6fc2", "#58a9f5"),
    "baseline": ("#b35a00", "#f0a050"),
    "pass": ("#1a7f3c", "#45c46e"),
    "hold": ("#6a5fb0", "#a79df0"),
    "fail": ("#c62a2f", "#ff7b76"),
    "harm": ("#f7dfdf", "#43222a"),
}
_INK, _FAINT, _PAPER = (_COLOURS[name][0] for name in ("ink", "faint", "paper"))
_MARKERS = {Outcome.PASS: "o", Outcome.HOLD: "D", Outcome.FAIL: "X"}
_WIDTH = 8.0  # inches


class Drawn(NamedTuple):
    """One picture."""

    name: str  # of its file
    text: str  # what it shows
    svg: str


class NoMatplotlib(Exception):  # noqa: N818 an extra that is not there
    """matplotlib is not installed."""


@contextmanager
def drawing(folder: Path) -> Iterator[None]:
    """Inside, pictures can be drawn.  What matplotlib keeps for itself goes to a folder in `folder`, and away again.

    Raises NoMatplotlib.
    """
    cache = folder / ".matplotlib"
    own = "MPLCONFIGDIR" not in os.environ
    if own:
        cache.mkdir(parents=True, exist_ok=True)
        os.environ["MPLCONFIGDIR"] = str(cache)
    try:
        import matplotlib as mpl  # noqa: PLC0415 an extra
    except ImportError:
        raise NoMatplotlib(MISSING) from None
    else:
        mpl.use("svg")
        yield
    finally:
        if own:
            del os.environ["MPLCONFIGDIR"]
            shutil.rmtree(cache, ignore_errors=True)


def draw(finding: Finding) -> Iterator[Drawn]:
    """The pictures there is something to show in."""
    gates = [gate for gate in finding.verdict.gates if gate.estimate is not None]
    if gates:
        text = f"{finding.agent}: how much worse the fine-tune is, by metric, with its interval and margin"
        yield Drawn(f"{finding.agent}-intervals.svg", text, _intervals(finding.agent, gates, text))
    if finding.course:
        text = f"{finding.agent}: the fine-tune's share of the requests, and success of both arms, over time"
        yield Drawn(f"{finding.agent}-course.svg", text, _course(finding, text))


def _intervals(agent: str, gates: list[GateVerdict], text: str) -> str:
    figure, rows = _figure(len(gates), 0.62)
    for row, gate in zip(rows, gates, strict=True):
        _interval(row, gate)
    figure.suptitle(f"{agent}: worse by … (left of 0: better)", x=0.01, ha="left", fontsize=11, color=_INK)
    return _svg(figure, text)


def _interval(row: Any, gate: GateVerdict) -> None:
    estimate = _scaled(gate, gate.estimate) or 0.0
    margin = _scaled(gate, gate.margin) or 0.0
    lower, upper = _scaled(gate, gate.lower), _scaled(gate, gate.upper)
    reach = 1.25 * max(abs(each) for each in (estimate, margin, lower or 0.0, upper or 0.0)) or 1.0
    colour = _COLOURS[str(gate.outcome)][0]
    row.set_xlim(-reach, reach)
    row.set_ylim(-1, 1)
    row.set_yticks([])
    row.axvspan(margin, reach, color=_COLOURS["harm"][0], lw=0, zorder=0)
    row.axvline(0, color=_FAINT, lw=0.8, zorder=1)
    row.axvline(margin, color=_COLOURS["fail"][0], lw=1.2, ls=(0, (3, 2)), zorder=1)
    row.plot([-reach if lower is None else lower, reach if upper is None else upper], [0, 0], color=colour, lw=3)
    row.plot([estimate], [0], _MARKERS[gate.outcome], color=colour, ms=8, mec=_PAPER, mew=1)
    unit = {"relative": " (%)", "score": ""}.get(gate.scale, " (pp)")
    row.set_ylabel(f"{gate.gate}{unit}\n{gate.kind}", rotation=0, ha="right", va="center", fontsize=9, color=_INK)
    shown = "" if gate.estimate is None else harm_of(gate, gate.estimate)
    row.text(1.015, 0.5, f"{gate.outcome}  {shown}\nmargin {harm_of(gate, gate.margin)}", transform=row.transAxes,
             va="center", fontsize=9, color=_INK)  # fmt: skip


def _scaled(gate: GateVerdict, value: float | None) -> float | None:
    """Per cent, points, or the score itself: what the axis counts in."""
    if value is None:
        return None
    return value if gate.scale == "score" else value * 100


def _course(finding: Finding, text: str) -> str:
    figure, (upper, lower) = _figure(2, 1.5)
    step, bars = _bars(finding.course)
    times = [(bar.hour + step / 2) * HOUR / 86400 for bar in bars]  # days since 1970: matplotlib's dates
    shares = [100 * bar.finetuned.requests / (bar.finetuned.requests + bar.baseline.requests) for bar in bars]
    upper.plot(times, shares, color=_COLOURS["finetuned"][0], lw=1.8, marker="o", ms=3)
    for line in finding.stages:
        if line.since is not None:
            upper.axvline(line.since / 86400, color=_FAINT, lw=0.8)
            upper.text(line.since / 86400, 1.02, f" {line.percentage:g} %", transform=upper.get_xaxis_transform(),
                       fontsize=8, color=_INK)  # fmt: skip
    upper.set_ylim(0, max(100 if max(shares) > 50 else 1.3 * max(shares), 5))
    for name, marker in (("finetuned", "o"), ("baseline", "s")):
        arms = [(when, getattr(bar, name).success) for when, bar in zip(times, bars, strict=True)]
        known = [(when, 100 * success) for when, success in arms if success is not None]
        label = "fine-tuned" if name == "finetuned" else name
        lower.plot(*zip(*known, strict=True) if known else ((), ()), color=_COLOURS[name][0], lw=1.8, marker=marker,
                   ms=3.5, label=label, ls="-" if name == "finetuned" else (0, (4, 2)))  # fmt: skip
    least = min((100 * arm.success for bar in bars for arm in bar[1:3] if arm.success is not None), default=0.0)
    lower.set_ylim(min(least, 99) - 0.1 * (100 - min(least, 99)), 100 + 0.1 * (100 - min(least, 99)))
    for axes, what in ((upper, "fine-tuned,\n% of requests"), (lower, "success,\n% as assigned")):
        axes.set_ylabel(what, rotation=0, ha="right", va="center", fontsize=9, color=_INK)
    lower.legend(fontsize=8, frameon=False, labelcolor=_INK, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.97))
    _dates(upper, lower)
    figure.suptitle(finding.agent, x=0.01, ha="left", fontsize=11, color=_INK)
    return _svg(figure, text)


def _bars(course: tuple[Course, ...]) -> tuple[int, list[Course]]:
    """The hours, or days of UTC where there are many, and how many hours each is; empty ones are left out."""
    step = 1 if course[-1].hour - course[0].hour < MOST_BARS else 24
    found: dict[int, Course] = {}
    for each in course:
        start = each.hour // step * step
        before = found.get(start, Course(start, NOBODY, NOBODY, 0, 0))
        finetuned, baseline = before.finetuned.plus(each.finetuned), before.baseline.plus(each.baseline)
        found[start] = Course(start, finetuned, baseline, 0, 0)
    return step, [each for each in found.values() if each.finetuned.requests + each.baseline.requests]


def _dates(*axes: Any) -> None:
    from matplotlib import dates  # noqa: PLC0415

    untyped: Any = dates
    for each in axes:
        locator = untyped.AutoDateLocator(minticks=3, maxticks=8)
        each.xaxis.set_major_locator(locator)
        each.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator))
        each.set_xlim(*axes[0].get_xlim())
        each.xaxis.get_offset_text().set(color=_INK, fontsize=8)
    axes[0].tick_params(labelbottom=False)
    axes[0].xaxis.get_offset_text().set_visible(False)


def _figure(rows: int, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(_WIDTH, 0.7 + rows * height), facecolor=_PAPER, layout="constrained")
    axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for each in axes:
        each.set_facecolor(_PAPER)
        each.tick_params(colors=_INK, labelsize=8)
        for side, spine in each.spines.items():
            spine.set(color=_FAINT, visible=side == "bottom")
    return figure, axes


def _svg(figure: Any, text: str) -> str:
    """Nothing of the time, the machine or the run is in it."""
    import matplotlib as mpl  # noqa: PLC0415

    written = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "splitlane", "font.family": "sans-serif"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    head, svg, rest = written.getvalue().partition("<svg ")
    opening, end, body = rest.partition(">")
    return f"{head}{svg}{opening}{end}\n<title>{escape(text)}</title>\n<style>{_DARK}</style>{body}"


def _dark() -> Iterator[str]:
    for light, dark in _COLOURS.values():
        for use in ("fill", "stroke"):
            yield f'[style*="{use}: {light}"]{{{use}:{dark} !important}}'


_DARK = f"@media (prefers-color-scheme:dark){{{''.join(_dark())}}}"

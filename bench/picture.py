"""A result as a picture: each contender's median ratio to nginx, with the smallest and the largest of the rounds.

    python -m bench.picture bench/results/DATE-CASE.json …   # anew, next to each

SVG whose text is text, the same for the same numbers.  The scale is logarithmic where contenders lie further
apart than ten times.  matplotlib draws: the extra `pictures`, which the development environment has.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.plan import BenchError

WIDTH, ROW = 8.0, 0.36  # inches
INK, FAINT, OURS, THEIRS = "#24292e", "#8b949d", "#0b6fc2", "#b35a00"
# What a case's ratio is of, and which way is good.
MEANINGS = {
    "json": "requests per second, relative to nginx in the same round (more is better)",
    "sse": "CPU time per relayed chunk, relative to nginx in the same round (less is better)",
    "sse-1000": "CPU time per relayed chunk, relative to nginx in the same round (less is better)",
}
WIDE = 10.0  # times, from the smallest to the largest


def beside(result: Path) -> Path:
    """Where the picture of a result file is."""
    return result.with_suffix(".svg")


def ratios(content: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, median, smallest and largest ratio of each row that has one, from the top; `direct` has no proxy."""
    return [
        (row["contender"], row["ratio"], row["ratio_min"], row["ratio_max"])
        for row in content["rows"]
        if "ratio" in row and row["contender"] != "direct"
    ]


def words(content: dict[str, Any]) -> str:
    """The picture in words, for who does not see it."""
    told = "; ".join(f"{name} {middle:.3g} ({low:.3g} to {high:.3g})" for name, middle, low, high in ratios(content))
    return f"{MEANINGS[content['case']]}, median and range: {told}."


def draw(result: Path) -> Path:
    """Draw a result file's picture next to it; raises BenchError where matplotlib is missing."""
    content = json.loads(result.read_text())
    shown = list(reversed(ratios(content)))
    with TemporaryDirectory() as folder:
        os.environ.setdefault("MPLCONFIGDIR", folder)
        try:
            import matplotlib as mpl  # noqa: PLC0415 an extra
            from matplotlib.figure import Figure  # noqa: PLC0415
        except ImportError:
            raise BenchError("no picture without matplotlib: pip install 'splitlane[pictures]'") from None
        settings: Any = {
            "svg.fonttype": "none",
            "svg.hashsalt": "splitlane",
            "font.family": "sans-serif",
            "font.size": 10,
        }
        with mpl.rc_context(settings | {"text.color": INK, "xtick.color": INK, "ytick.color": INK}):
            figure = Figure(figsize=(WIDTH, 1.0 + ROW * len(shown)), layout="constrained")
            axes = figure.subplots()
            for place, (name, middle, low, high) in enumerate(shown):
                colour = OURS if name.startswith("splitlane") else THEIRS
                axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
                axes.plot([middle], [place], "o", color=colour, markersize=6)
                axes.annotate(
                    f"{middle:.3g}", (middle, place), (0, 5), textcoords="offset points", ha="center", color=INK
                )
            axes.axvline(1.0, color=FAINT, linewidth=1, zorder=0)
            axes.set_yticks(range(len(shown)), [name for name, *_ in shown])
            axes.set_ylim(-0.6, len(shown) - 0.4)
            if max(each[3] for each in shown) > WIDE * min(each[2] for each in shown):
                axes.set_xscale("log")
                axes.xaxis.set_major_formatter("{x:g}")
            else:
                axes.set_xlim(left=0)
            axes.margins(x=0.12)
            axes.set_xlabel(MEANINGS[content["case"]], color=INK)
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
            axes.spines["bottom"].set_color(FAINT)
            metadata = {"Title": words(content), "Date": None, "Creator": None}
            figure.savefig(beside(result), format="svg", facecolor="#fdfdfc", metadata=metadata)
    return beside(result)


def main() -> int:
    """Entry point; the exit code."""
    for argument in sys.argv[1:]:
        print(draw(Path(argument)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

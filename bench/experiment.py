"""How often a ramp is wrong: rolls back a model that is as good, or lets one pass that is two points worse.

    python -m bench.experiment            # all at full size: about six minutes on two cores that are free
    python -m bench.experiment --quick    # a tenth of the ramps, no result file

Traffic has heavy users; looks are four a day for 14 days. A row says which path its ramps took: `arrays`
(what `splitlane simulate` does), `judge` (the proxy's own judge on the same sums), `store` (records through
the ledger's batches into SQLite, read as evidence, judged). Seeds are fixed: the same code gives the same numbers.
The parts that are no ramps (a falling week, rescued requests) come as means with their standard errors.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process for each core keeps all busy

import numpy as np

from bench.report import Column, Outcome, document, progress, table, write
from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.decide import decide
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.judged import judged
from proxy.experiment.simulate.summary import summarise
from proxy.experiment.simulate.trial import Looker, Trial, run_trial
from tests.ledger.records import opened
from tests.support.stored_ramps import HEAVY, Contamination, falling_week, hashed, independent, rollout_of, run_stored

COURSE = Course(days=14, looks=4)
MANY = Traffic(users_per_day=2000, requests_per_user=10, spread=1.5, returning=0.7, success=0.97, heterogeneity=0.05)
EXTREME = Traffic(users_per_day=400, requests_per_user=10, spread=2.0, returning=0.7, success=0.97, heterogeneity=0.1)
RARE = Traffic(users_per_day=400, requests_per_user=10, spread=1.5, returning=0.7, success=0.995, heterogeneity=0.02)
RAMP = (10.0, 25.0, 50.0, 100.0)
# No step is ever taken: one stage is looked at 56 times.
STAYING: dict[str, Any] = {"soak": "365d"}
LOOKERS: dict[str, Looker] = {"arrays": decide, "judge": judged, "independent": independent}
# Traffic, percentages, path, ramps; each with a model as good, at the margin, and two points worse.
ROWS = (
    ("heavy", HEAVY, RAMP, "arrays", 400),
    ("heavy, many", MANY, RAMP, "arrays", 150),
    ("extreme", EXTREME, RAMP, "arrays", 300),
    ("heavy, failing rarely", RARE, RAMP, "arrays", 300),
    ("heavy, staying", HEAVY, (10.0, 100.0), "arrays", 300),
    ("heavy, staying", HEAVY, (50.0, 100.0), "arrays", 300),
    ("heavy", HEAVY, RAMP, "judge", 100),
    ("heavy", HEAVY, RAMP, "store", 10),
    ("heavy", HEAVY, RAMP, "independent", 150),
)
EFFECTS = (0.0, -0.01, -0.02)
MEANS = 200  # ramps by the calendar

COLUMNS = (
    Column("traffic", "traffic"),
    Column("ramp", "ramp"),
    Column("path", "path"),
    Column("effect", "effect"),
    Column("ramps", "ramps"),
    Column("stopped", "rolled back"),
    Column("passed", "passed a gate"),
    Column("completed", "completed"),
    Column("days", "days to stop"),
    Column("exposed", "users exposed"),
)
Done = TypeVar("Done")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the ramps, no result file")
    args = parser.parse_args()
    part = 10 if args.quick else 1
    started = time.monotonic()
    rows: list[dict[str, object]] = []
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
        for name, traffic, percentages, path, number in ROWS:
            for effect in EFFECTS:
                what = f"{name}, {path}, {100 * effect:+g} pp"
                run = partial(one, traffic, percentages, path, effect)
                trials = collected(pool, what, run, max(2, number // part))
                rows.append(row(name, percentages, path, effect, trials))
        notes = [means(pool, MEANS // part), f"{time.monotonic() - started:.0f} s in all"]
    outcome = Outcome("experiment", {"days": COURSE.days, "looks": COURSE.looks}, COLUMNS, rows, notes)
    progress("")
    content = document(outcome, quick=args.quick)
    print(table(outcome), *(f"note: {note}" for note in notes), f"written to {write(content)}", sep="\n")
    return 0


def one(traffic: Traffic, percentages: Sequence[float], path: str, effect: float, seed: int) -> Trial:
    """One ramp."""
    rng = np.random.default_rng(seed)
    crowd = DrawnCrowd(rng, traffic, COURSE.days, COURSE.looks)
    rollout = rollout_of(*percentages, **(STAYING if len(percentages) == 2 else {}))
    model = Effect(success=effect)
    if path != "store":
        return run_trial(rng, crowd, rollout, model, COURSE, LOOKERS[path])
    with TemporaryDirectory() as folder, opened(f"sqlite:///{Path(folder, 'store.db')}") as database:
        return run_stored(rng, hashed(crowd), rollout, model, COURSE, database)[0]


def collected(pool: ProcessPoolExecutor, what: str, run: Callable[[int], Done], number: int) -> list[Done]:
    """What `run` makes of the seeds, in their order."""
    found = []
    for done in pool.map(run, range(number), chunksize=max(1, number // 50)):
        found.append(done)
        progress(f"{what}: {len(found)}/{number}")
    return found


def row(name: str, percentages: Sequence[float], path: str, effect: float, trials: list[Trial]) -> dict[str, object]:
    """Shares in per cent with their 95 % interval."""
    told = summarise(trials)
    shares = {
        key: f"{100 * share.share:.1f} ({100 * share.lower:.1f} … {100 * share.upper:.1f}) %"
        for key, share in (("stopped", told.stopped), ("passed", told.passed_first), ("completed", told.completed))
    }
    return {
        "traffic": name,
        "ramp": "/".join(f"{percentage:g}" for percentage in percentages),
        "path": path,
        "effect": f"{100 * effect:+g} pp" if effect else "none",
        "ramps": len(trials),
        **shares,
        "days": f"{told.days_to_stop.median:.2f}" if told.days_to_stop.ramps else "–",
        "exposed": f"{told.exposed_mean:.0f} of {told.people:.0f}",
        "stopped_by": told.stopped_by,
        "held_by": told.held_by,
    }


def means(pool: ProcessPoolExecutor, number: int) -> str:
    """Biases in points, each with its standard error."""
    weeks = collected(pool, "falling week", falling_week, number)
    rescues = collected(pool, "rescued requests", contaminated, number)
    stratified, pooled = zip(*weeks, strict=True)
    assigned, without, served = zip(*rescues, strict=True)
    return (
        f"bias in points, mean of {number} ramps ± standard error: a falling week (-1 pp a day) {_mean(stratified)},"
        f" stages pooled {_mean(pooled)}; rescued requests: as assigned {_mean(assigned)}, without them"
        f" {_mean(without)}, for who answered {_mean(served)}"
    )


def contaminated(seed: int) -> tuple[float, float, float]:
    """How far each view is from the truth."""
    made = Contamination(seed)
    return made.harm - made.truth, made.without_rescued - made.truth, made.as_served - made.truth


def _mean(values: Sequence[float]) -> str:
    return f"{100 * fmean(values):+.2f} ± {100 * stdev(values) / len(values) ** 0.5:.2f}"


if __name__ == "__main__":
    sys.exit(main())

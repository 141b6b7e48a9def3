"""Many ramps, on all cores that this process may use; the same numbers on however many there are."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.experiment.simulate.drawn import DrawnCrowd
from proxy.experiment.simulate.recorded import Record, RecordedCrowd
from proxy.experiment.simulate.requests import Crowd
from proxy.experiment.simulate.trial import Trial, run_trial
from proxy.policy.config_rollout import RolloutConfig

CHUNK = 10  # ramps that one process makes at a time
WORTH_A_PROCESS = 40  # ramps; starting processes takes half a second


@dataclass(frozen=True, slots=True)
class Recorded:
    """Traffic that was there."""

    agent: str
    record: Record
    people: int  # who come in the whole ramp


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is the same in all ramps."""

    traffic: Traffic | Recorded
    rollout: RolloutConfig
    course: Course
    seed: int


_simulation: Simulation | None = None  # of a worker process


def run_trials(simulation: Simulation, effect: Effect, ramps: int, step: Callable[[int], None]) -> list[Trial]:
    """Ramps with one effect, in their order; `step` is told how many more are done.

    Two effects see the same people: a difference between their results is not chance of the crowd.
    """
    chunks = [range(first, min(first + CHUNK, ramps)) for first in range(0, ramps, CHUNK)]
    processes = min(len(os.sched_getaffinity(0)), len(chunks))
    found: dict[int, list[Trial]] = {}
    if processes == 1 or ramps < WORTH_A_PROCESS:
        for chunk in chunks:
            found[chunk.start] = _trials(simulation, effect, chunk)
            step(len(chunk))
    else:
        with ProcessPoolExecutor(processes, get_context("spawn"), _begin, (simulation,)) as pool:
            waiting = {pool.submit(_work, effect, chunk): chunk for chunk in chunks}
            try:
                for done in as_completed(waiting):
                    found[waiting[done].start] = done.result()
                    step(len(waiting[done]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [ramp for chunk in chunks for ramp in found[chunk.start]]


def _begin(simulation: Simulation) -> None:
    """A worker's start; who interrupts the command interrupts its parent."""
    global _simulation  # noqa: PLW0603 sent once, not with every chunk
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _simulation = simulation


def _work(effect: Effect, chunk: range) -> list[Trial]:
    assert _simulation is not None, "a worker that has begun"
    return _trials(_simulation, effect, chunk)


def _trials(simulation: Simulation, effect: Effect, chunk: range) -> list[Trial]:
    return [_trial(simulation, effect, number) for number in chunk]


def _trial(simulation: Simulation, effect: Effect, number: int) -> Trial:
    rng = np.random.default_rng([simulation.seed, number])
    return run_trial(rng, crowd_of(rng, simulation), simulation.rollout, effect, simulation.course)


def crowd_of(rng: np.random.Generator, simulation: Simulation) -> Crowd:
    """The people of one ramp."""
    traffic, course = simulation.traffic, simulation.course
    if isinstance(traffic, Recorded):
        return RecordedCrowd(rng, traffic.record, traffic.people, course.looks)
    return DrawnCrowd(rng, traffic, course.days, course.looks)

import pytest

from proxy.experiment.simulate.summary import share_of, summarise
from proxy.experiment.simulate.trial import End, Trial

RAMPS = [
    Trial(End.COMPLETED, 4.0, (2.0, 2.0), (), 1000, 1000),
    Trial(End.COMPLETED, 6.0, (3.0, 3.0), (), 1000, 1000),
    Trial(End.STOPPED, 0.5, (), ("success",), 80, 1000),
    Trial(End.STOPPED, 5.5, (5.0,), ("latency_p95",), 200, 1000),
    Trial(End.UNDECIDED, 14.0, (), ("cost", "success"), 120, 1000),
]


def test_ramps_are_counted_by_their_end_and_their_gate() -> None:
    told = summarise(RAMPS)
    assert (told.stopped.share, told.completed.share, told.undecided.share) == (0.4, 0.4, 0.2)
    assert told.passed_first.share == 0.6
    assert told.stopped_by == {"success": 1, "latency_p95": 1}
    assert told.held_by == {"cost": 1, "success": 1}
    assert [(stage.ramps, stage.median) for stage in told.stages] == [(3, 3.0), (2, 2.0)]
    assert told.days_to_complete[:1] == (2,)
    assert told.exposed_mean == 480


def test_interval_is_wilsons() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, and 0 of 20.
    assert share_of(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share_of(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_nothing_to_count_is_zero() -> None:
    told = summarise(RAMPS[4:])
    assert told.days_to_complete == (0, 0.0, 0.0, 0.0)
    assert told.stages == ()

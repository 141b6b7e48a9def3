import pytest

from proxy.experiment.simulate.assumptions import Course, Traffic


def test_users_cannot_differ_more_than_shares_can() -> None:
    Traffic(success=0.98, heterogeneity=0.13)
    with pytest.raises(ValueError, match=r"mean 0\.02 differ by less than 0\.14 between users"):
        Traffic(success=0.98, heterogeneity=0.15)


def test_spotless_baseline_has_users_alike() -> None:
    assert Traffic(success=1.0, heterogeneity=0).success == 1
    with pytest.raises(ValueError, match="differ by less than 0 "):
        Traffic(success=1.0, heterogeneity=0.01)


def test_looks_share_the_day() -> None:
    assert Course(days=1, looks=4).seconds == 6 * 3600

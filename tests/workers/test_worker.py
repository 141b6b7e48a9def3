"""What a leading worker sees of all of them."""

import asyncio
from typing import Any

import pytest

from proxy.listener.service import Service
from proxy.telemetry.metrics import Metrics, gauge
from proxy.telemetry.totals import plain_families
from proxy.workers import worker
from proxy.workers.worker import SeenByAll
from tests.support.lane import LOCAL, policy_of, store_of
from tests.support.records import SOUND


class Asked:
    """A worker that only asks."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def ask(self, number: int) -> None:
        self.numbers.append(number)


def seen() -> tuple[Any, Asked]:
    asked = Asked()
    return SeenByAll(asked, None), asked  # type: ignore[arg-type]


def counts(requests: int) -> Metrics:
    metrics = Metrics(lambda: frozenset({"ft:m"}), tuple)
    metrics.take([SOUND] * requests)
    return metrics


async def test_answer_waits_for_the_sum_that_was_asked_for_and_not_for_an_older_one() -> None:
    by_all, asked = seen()
    refreshing = asyncio.create_task(by_all.refresh())
    await asyncio.sleep(0)
    assert asked.numbers == [1]
    by_all.hold(0, counts(3).plain(), {})
    await asyncio.sleep(0.01)
    assert not refreshing.done()
    by_all.hold(1, counts(5).plain(), {})
    await refreshing
    ((_, series),) = by_all.metrics.series()
    assert series.successes == 5


async def test_parent_that_says_nothing_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker, "HEARD_WITHIN", 0.01)
    by_all, _ = seen()
    await by_all.refresh()
    assert "do not say" in caplog.text


async def test_breakers_and_requests_in_flight_are_everybodys() -> None:
    policy = policy_of("http://127.0.0.1:1")
    service = Service(store_of(policy), LOCAL, LOCAL)
    (agent,) = policy.agents.values()
    by_all, _ = seen()
    assert (by_all.in_flight(), by_all.breaker_is_open(agent)) == (0, False)
    families = [family for family in service.gauges() if family.name != "splitlane_in_flight"]
    (breaker,) = [family for family in families if family.name == "splitlane_breaker_open"]
    breaker.samples = [sample._replace(value=1.0) for sample in breaker.samples]
    plain = plain_families([*families, gauge("splitlane_in_flight", "Requests.", 3)], stored=False)
    by_all.hold(0, counts(1).plain(), plain)
    assert (by_all.in_flight(), by_all.breaker_is_open(agent)) == (3, True)


async def test_recent_outcomes_begin_with_the_lead() -> None:
    by_all, _ = seen()
    by_all.hold(0, counts(5).plain(), {})
    by_all.recent.begin()
    by_all.hold(0, counts(7).plain(), {})
    (outcomes,) = by_all.recent.outcomes().values()
    assert outcomes.requests == 2

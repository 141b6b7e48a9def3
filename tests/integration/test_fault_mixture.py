"""ACCEPTANCE 37 under load: every fault at once, and each request still has one outcome, one record and one answer."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.integration.streaming import metric
from tests.support.chaos import Chaos
from tests.support.lane import eventually, policy_of, running

REQUESTS, AT_ONCE = 400, 40


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_sum_of_outcomes_is_the_number_of_requests_under_a_mix_of_all_faults() -> None:
    async with Chaos(seed=0) as chaos, running(policy_of(chaos.baseline.url, **chaos.sections())):
        pass  # what the first proxy of a process opens for good
    before, open_before = asyncio.all_tasks(), descriptors()
    async with Chaos(seed=37) as chaos:
        account = chaos.account
        async with running(policy_of(chaos.baseline.url, **chaos.sections())) as lane:
            turn = asyncio.Semaphore(AT_ONCE)

            async def ask() -> None:
                async with turn:
                    await chaos.ask(lane.host, lane.port)

            await asyncio.gather(*(ask() for _ in range(REQUESTS)))
            await chaos.calm_down()
            await eventually(lambda: len(lane.records) >= account.sent, 30)
            await lane.idle()
            await eventually(lambda: not lane.service.connections, 30)
            counted = await metric(lane, "model_requests_total")
            held = [await metric(lane, f"splitlane_{what}") for what in ("in_flight", "buffered_bytes")]
            records = {record.request_id: record for record in lane.records}
    assert account.wrong == []
    assert account.lost == 0
    assert account.sent == REQUESTS
    assert counted == len(lane.records) == len(records) == account.sent
    assert held == [0, 0]
    assert {name: records[name].status for name in account.seen} == account.seen
    outcomes = Counter(str(record.failure or "success") for record in lane.records)
    assert outcomes["success"] > REQUESTS / 3
    assert account.rescued > REQUESTS / 20
    assert len(outcomes) > 8
    assert len(account.faults) > 30
    await eventually(lambda: descriptors() <= open_before)
    assert {task.get_name() for task in asyncio.all_tasks() - before} == set()

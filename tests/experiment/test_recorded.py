"""Recorded users are drawn whole: who they are, when they come, what becomes of them."""

from pathlib import Path

import numpy as np
import pytest

from proxy.experiment.simulate.recorded import RecordedCrowd, TooLittleRecorded, read_record
from proxy.words import Assignment, Decision, Failure, Record, Variant
from tests.ledger.records import keep, opened, record

MIDNIGHT = 1_795_046_400.0
BASELINE = Decision(Variant.BASELINE, Assignment.BASELINE, 7000)


def asked(user: int, time: float, **changes: object) -> Record:
    return record(time=MIDNIGHT + time, unit=f"{user:032x}", decision=BASELINE, latency=1.0 + user, **changes)


def test_requests_of_the_baseline_are_read_by_user_and_time(store_url: str) -> None:
    rows = [asked(user, 3600.0 * user + 60 * number) for user in range(60) for number in range(2)]
    rows += [
        asked(3, 90_000.0, failure=Failure.RESET, status=502),
        asked(4, -1.0),  # too early
        record(time=MIDNIGHT, unit="f" * 32, decision=Decision(Variant.FINETUNED, Assignment.FINETUNED, 5)),
        record(time=MIDNIGHT, unit="", decision=Decision(Variant.BASELINE, Assignment.UNASSIGNED, -1)),
        record(time=MIDNIGHT, agent="other"),
    ]
    with opened(store_url) as database:
        keep(database, rows)
        found = read_record(database, "qa_agent", MIDNIGHT)
    assert (found.users, found.days, len(found.time)) == (60, 3, 121)
    assert found.users_per_day == pytest.approx(61 / 3)
    third = slice(found.begins[3], found.begins[4])
    assert set(found.latency[third]) == {4.0}
    assert found.time[third].tolist() == [10_800.0, 10_860.0, 90_000.0]
    assert found.failed[third].tolist() == [False, False, True]
    assert (found.cost == 0.25).all()


def test_few_users_are_no_crowd(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        with pytest.raises(TooLittleRecorded, match="qa_agent has 0 users on the baseline in that time; 50 are needed"):
            read_record(database, "qa_agent", 0.0)
        keep(database, [asked(user, 0.0) for user in range(49)])
        with pytest.raises(TooLittleRecorded, match="49 users"):
            read_record(database, "qa_agent", 0.0)


def test_crowd_replays_whole_users_and_goes_through_the_record_again(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 's.db'}") as database:
        rows = [asked(user, 86_400 * day + 43_200 * (user % 2)) for user in range(60) for day in range(1 + user % 2)]
        keep(database, rows)
        found = read_record(database, "qa_agent", MIDNIGHT)
    assert found.days == 2
    crowd = RecordedCrowd(np.random.default_rng(1), found, 200, 2)
    looks = [crowd.requests(*divmod(number, 2)) for number in range(8)]
    users = [set(requests.latency.tolist()) for requests in looks]
    assert all(each % 2 for each in users[0]), "even users come in the morning of the first day"
    assert not any(each % 2 for each in users[1])
    assert looks[2].person.size == 0
    assert [requests.person.tolist() for requests in looks[:4]] == [requests.person.tolist() for requests in looks[4:]]
    assert sum(len(requests.person) for requests in looks[:2]) == 200
    assert crowd.failing == 0

"""A policy with a short ramp, and its store filled with real records of both arms."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.experiment.controller import Controller
from proxy.ledger.database import Database
from proxy.policy.load import load_policy, read_policy
from proxy.policy.placeholders import Placeholders
from proxy.words import Assignment, Decision, Failure, Variant
from tests.ledger.records import keep, opened, record

HOUR, DAY = 3600.0, 86400.0
SALT = "qa_agent/ft:m"
BUCKETS = 160  # with data, of both arms together
TEXT = """\
# Who answers whom; do not reorder.
environment: test   # not production
upstreams: {{up: {{base_url: "http://127.0.0.1:1", api_key: 'k'}}}}

agents:
    qa_agent: {{fine_tuned: "ft:m", fallback: m}}   # the oldest
    legal_agent: {{fine_tuned: 'ft:l', fallback: m, rollout_percentage: 0}}

ab_testing: {{enabled: true, rollout_percentage: {percentage}}}  # the ramp

# one gate, wide: what is tested here is what follows from it
rollout:
    steps:
        - {{percent: 50, soak: 1h, min: {{users: 20, requests: 100}}}}
        - {{percent: 80, soak: 1h, min: {{users: 10, requests: 100}}, approval: true}}   # ask first
        - {{percent: 100}}
    gates:
        success: {{kind: guardrail, margin: -20pp, min: {{users: 10, events: 0}}}}
        first_attempt: null
        fallback_rate: null
        latency_p95: null
        latency_mean: null
        cost: null
        feedback: null
{more}
store: {{url: "{store}", unit_key: 0123456789abcdef0123456789abcdef}}
"""


def write_ramp(folder: Path, store: str = "", percentage: float = 50, more: str = "") -> Path:
    """The policy file; the store is a SQLite file beside it where none is named."""
    path = folder / "policy.yaml"
    store = store or f"sqlite:///{folder / 's.db'}"
    path.write_text(TEXT.format(store=store, percentage=f"{percentage:g}", more=more))
    return path


def percentage_of(path: Path, agent: str = "qa_agent") -> float:
    """What the policy says now."""
    return load_policy(path, Placeholders({})).agents[agent.encode()].percentage


def fill(
    database: Database,
    percentage: float,
    *,
    failing: float = 0.0,
    begin: float,
    end: float | None = None,
    agent: str = "qa_agent",
    salt: str = SALT,
) -> None:
    """Four requests of each of some users over a stage; a share of the fine-tuned ones fails.

    Users are spread over all buckets, so the arms have the sizes that the percentage promises.
    """
    end = time.time() - 1 if end is None else end
    records = []
    for number in range(BUCKETS):
        bucket = number * 10_000 // BUCKETS
        treated = bucket < percentage * 100
        variant = Variant.FINETUNED if treated else Variant.BASELINE
        for turn in range(4):
            fails = treated and (number * 4 + turn) % 100 < failing * 100
            records.append(
                record(
                    time=begin + (end - begin) * (turn + number / BUCKETS) / 4,
                    percentage=float(percentage),
                    decision=Decision(variant, Assignment(variant.value), bucket),
                    agent=agent,
                    salt=salt,
                    unit=f"{number:032x}",
                    failure=Failure.SERVER_ERROR if fails else None,
                    status=500 if fails else 200,
                )
            )
    keep(database, records, name=f"batch-{agent}-{percentage}-{begin}")


@contextmanager
def controlling(path: Path, store: str = "", now: float | None = None, **changes: Any) -> Iterator[Controller]:
    """A controller of the policy as it is now, at a time of the test's."""
    loaded = read_policy(path, Placeholders({}))
    with opened(store or str(loaded.policy.store.url)) as database:
        clock = time.time if now is None else lambda: now
        yield Controller(path, Placeholders({}), loaded, database, "ann@host", clock, **changes)

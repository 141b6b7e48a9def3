"""A lane with a budget in round numbers: an answer of the fine-tune costs a dollar, the baseline's ten cents.

async with Stub() as stub, running(budgeted(stub.url, {"daily_usd": 10, "on_exceeded": "reject"})) as lane:
    answer = await ask(lane, chat(DOLLAR))

Budgets here are daily ones: a test that begins before the full hour may end after it.
"""

import time
from typing import Any

from proxy.budget.budgets import BudgetStatus
from proxy.policy.snapshot import Policy
from tests.support.lane import BASELINE, FINETUNED, Lane, eventually, policy_of

PRICES = {FINETUNED: {"input": 0, "output": 100_000}, BASELINE: {"input": 0, "output": 10_000}}
# The stub's answers are as long as they may be.
DOLLAR = b'{"model":"m","messages":[{"role":"user","content":"Hello"}],"max_tokens":10}'


def budgeted(url: str, budgets: dict[str, Any], **changes: Any) -> Policy:
    """`policy_of` with prices and the policy's `budgets`."""
    return policy_of(url, budgets=budgets, prices=PRICES, **changes)


def status_of(lane: Lane, scope: str = "all") -> BudgetStatus:
    """The scope's only limit now."""
    exchange = lane.service.exchange
    (status,) = [each for each in exchange.budgets.status(exchange.policy, time.time()) if each.scope == scope]
    return status


async def spent_in(lane: Lane, scope: str = "all") -> float:
    """What the scope has spent once nothing is in flight, when nothing may be reserved."""
    await eventually(lambda: bool(lane.records))
    await lane.idle()
    status = status_of(lane, scope)
    assert status.reserved == 0
    return status.spent

"""What the controller did to a ramp, told to Slack, where the policy names a webhook: people did not ask for it."""

import asyncio

from proxy.experiment.actions import Action, is_failing
from proxy.experiment.controller import Done, is_old_news
from proxy.policy.snapshot import Policy

# Seconds that a command waits for the webhook at most.
PATIENCE = 5.0
# What stands for a variable that is unset (see `policy.placeholders`) leads nowhere.
_NOWHERE = "https://unset.invalid/"


def announce(done: Done, policy: Policy) -> None:
    """Tell of rollbacks, and of failures that stay where they are; waits for it, and never raises."""
    webhook = policy.alerting.slack_webhook
    texts = dict(_texts(done, policy.environment))
    if texts and webhook is not None and not webhook.startswith(_NOWHERE):
        asyncio.run(_send(webhook, texts))


def _texts(done: Done, environment: str) -> list[tuple[str, str]]:
    """Agent and text of each."""
    told = []
    for step in done.steps:
        stuck = step.plan.action is Action.NOT_DONE and is_failing(step.plan.because) and not is_old_news(step)
        if step.plan.action not in (Action.ROLLBACK, Action.FAIL) and not stuck:
            continue
        name, here = step.look.agent, f"{step.look.evidence.percentage:g} %"
        goes = f"rolled back from {here} to 0 %" if step.moves else f"failed, and stays at {here}"
        if step.moves and not done.written:
            goes = f"to be rolled back from {here} to 0 % by whoever applies the patch"
        if stuck:
            goes += f" because it cannot be moved ({step.plan.reason})"
        why = ", ".join(map(str, step.plan.because))
        told.append((name, f"Splitlane, {environment}: {name} {goes}: {why}; until `splitlane rollout clear`"))
    return told


async def _send(webhook: str, texts: dict[str, str]) -> None:
    from proxy.telemetry.slack import Notices  # noqa: PLC0415 aiohttp takes longer than all the rest

    notices = Notices()
    notices.follow(webhook)
    for agent, text in texts.items():
        notices.tell(agent, text)
    try:
        async with asyncio.timeout(PATIENCE):
            while sum(notices.outcomes.values()) < len(texts):
                await asyncio.sleep(0.02)
    except TimeoutError:
        pass
    await notices.close()

"""`agents.NAME.shadow` of the policy file: copies of baseline requests, sent to the fine-tune to see how it does."""

from typing import Annotated

from proxy.policy.fields import Percentage, PositiveDuration, Section, Text, number, whole


class ShadowConfig(Section):
    """What is copied, and how much of it; off unless a percentage is set."""

    percentage: Percentage = 0.0
    """The share of the agent's answered baseline requests that is copied to its fine-tune."""
    salt: Text | None = None
    """Salts the draw of requests, which has nothing to do with the split of users."""
    max_in_flight: Annotated[int, whole(1, 256)] = 4
    """Copies under way at a time; what is drawn beyond is dropped."""
    daily_usd: Annotated[float, number(0, 1e9, above=True)] = 5.0
    """US dollars per UTC day, for this agent's copies."""
    timeout: PositiveDuration = 120.0
    """The longest a copy may take, to the end of its answer."""

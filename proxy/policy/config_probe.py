"""`observability.probe` of the policy file: models that nobody has asked for a while are asked for one token."""

from typing import Annotated

from pydantic import AfterValidator

from proxy.policy.fields import PositiveDuration, Section, number


def _check_seldom(seconds: float) -> float:
    if seconds < 1:
        raise ValueError("a duration of at least 1s")
    return seconds


class ProbeConfig(Section):
    """Active health probes; off unless a period is set."""

    every: Annotated[PositiveDuration, AfterValidator(_check_seldom)] | None = None
    """How often each model is asked, unless it has just answered a request."""
    timeout: PositiveDuration = 5.0
    """The longest a probe may take, to the end of its answer."""
    daily_usd: Annotated[float, number(0, 1e9, above=True)] = 0.10
    """US dollars per UTC day, for this process's probes of all models."""

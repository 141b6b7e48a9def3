"""`fallback:` of the policy file: when and how often another attempt is made."""

from typing import Annotated

from pydantic import Field

from proxy.policy.fields import Duration, Flag, PositiveDuration, Section, number, whole


class FallbackOnConfig(Section):
    """Which failures of the fine-tune the baseline answers."""

    connect: Flag = True
    """It cannot be reached, resets, or has no free connection: `connect`, `connect_timeout`, `reset`, `overload`."""
    timeout: Flag = True
    """It is too slow: `first_byte_timeout`, `first_content_timeout`, `idle_timeout`, `total_timeout`."""
    rate_limited: Flag = Field(default=True, alias="429")
    """It limits the rate: `rate_limited`."""
    server_error: Flag = Field(default=True, alias="5xx")
    """It answers 5xx, 408 or 425, or breaks a stream early: `server_error`, `stream_error`, `stream_truncated`."""
    model_gone: Flag = True
    """It does not exist any more: `model_gone`."""
    bad_body: Flag = True
    """It answers 200 with something that is no answer, or a redirect: `bad_body`."""
    empty: Flag = True
    """It answers without saying anything: `empty`."""
    context_length: Flag = False  # the baseline's window is no larger as a rule: twice the wait, one answer
    """It finds the prompt too long: `context_length`."""
    auth: Flag = False  # a wrong key is for a person to fix, not to hide
    """It refuses the key: `auth`."""


class RetryConfig(Section):
    """Further attempts on the same target."""

    finetuned: Annotated[int, whole(0, 2)] = 0  # the baseline is the fine-tune's retry
    """Further attempts on the fine-tune."""
    baseline: Annotated[int, whole(0, 2)] = 1
    """Further attempts on the baseline."""
    max_wait: Duration = 2.0
    """The longest wait before a retry; an upstream that asks for more is not asked again."""


class RetryBudgetConfig(Section):
    """Retries per request, and how many a second are always allowed."""

    ratio: Annotated[float, number(0, 1)] = 0.2  # as in Finagle and linkerd
    """Retries per request, over time."""
    min: Annotated[int, whole(0)] = 3
    """Retries a second that are always allowed."""


class BreakerConfig(Section):
    """When calls to a failing fine-tune stop for a while."""

    failures: Annotated[int, whole(1)] = 5
    """So many failures in a row stop the calls to a fine-tune."""
    window: PositiveDuration = 30.0
    """The failures must fall within this time."""
    open: PositiveDuration = 30.0
    """How long the calls stop; then one probe at a time may try it."""


class FallbackConfig(Section):
    """When and how often another attempt is made."""

    on: FallbackOnConfig = FallbackOnConfig()
    retry: RetryConfig = RetryConfig()
    buffer_stream: Flag = False
    """Hold a stream until it is whole, up to `limits.max_body`, so that one that breaks midway is rescued too."""
    retry_budget: RetryBudgetConfig = RetryBudgetConfig()
    breaker: BreakerConfig = BreakerConfig()

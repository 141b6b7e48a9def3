"""What one request in flight holds of its windows, from its admission to its end."""

from proxy.budget.windows import NANO, Window
from proxy.policy.snapshot import AgentPolicy, Price
from proxy.wire.body import Body
from proxy.wire.usage import BYTES_PER_TOKEN
from proxy.words import Usage

# Nothing writes longer answers: a `max_tokens` of a billion must not keep everybody else out.
MOST_COMPLETION = 1_000_000


class Reservation:
    """Closed exactly once."""

    __slots__ = ("_amount", "_windows", "agent", "expected", "to_baseline")

    def __init__(self, agent: str, windows: list[Window], expected: Usage, *, to_baseline: bool) -> None:
        self.agent = agent
        self.expected = expected
        self.to_baseline = to_baseline  # a spent budget has taken the fine-tune away
        self._windows = windows
        self._amount = 0  # nano-dollars

    def hold(self, price: Price | None, billed: float) -> None:
        """Hold what the call of a model at `price` may cost, beside the US dollars `billed` so far."""
        dollars = billed if price is None else billed + price.of(self.expected)
        self._reserve(round(dollars * NANO))

    def close(self, cost: float) -> None:
        """Hold nothing any more: the request has cost so many US dollars, often none."""
        self._reserve(0)
        for window in self._windows:
            window.spent += cost

    def _reserve(self, amount: int) -> None:
        more = amount - self._amount
        self._amount = amount
        for window in self._windows:
            window.reserved += more


def expect(body: Body, agent: AgentPolicy, typical: int) -> Usage:
    """The tokens that a request is going to use at most; where nothing limits its answer, `typical` ones."""
    longest = _count(body, "max_completion_tokens") or _count(body, "max_tokens") or agent.max_tokens
    completion = typical if longest is None else longest * (_count(body, "n") or 1)
    return Usage(len(body.raw) // BYTES_PER_TOKEN, min(completion, MOST_COMPLETION), estimated=True)


def _count(body: Body, name: str) -> int | None:
    """A member that is a positive integer; None where it is anything else, which the upstream will refuse."""
    value = body.get(name)
    return value if type(value) is int and value > 0 else None

"""What one request in flight holds of its windows, from its admission to its end."""

from typing import Final

from proxy.budget.windows import NANO, Window
from proxy.policy.snapshot import AgentPolicy, Price
from proxy.wire.body import Body
from proxy.wire.usage import BYTES_PER_TOKEN

# Nothing writes longer answers: a `max_tokens` of a billion must not keep everybody else out.
MOST_COMPLETION: Final = 1_000_000


# Tokens of an answer, while an agent has given none and nothing says how long it may become.
TYPICAL_COMPLETION: Final = 500.0
# Afterwards: the mean of its successful answers, the latest counting for a sixteenth.
_MEAN_OVER: Final = 16.0


class Typical:
    """How long an agent's answers are."""

    __slots__ = ("completion",)

    def __init__(self) -> None:
        self.completion = TYPICAL_COMPLETION  # tokens

    def learn(self, completion: int) -> None:
        """A sound answer had so many tokens."""
        self.completion += (completion - self.completion) / _MEAN_OVER


class Reservation:
    """Closed exactly once."""

    __slots__ = ("_windows", "amount", "completion", "prompt", "to_baseline", "typical")

    def __init__(
        self, typical: Typical, windows: list[Window], prompt: int, completion: int, *, to_baseline: bool
    ) -> None:
        self.typical = typical  # of its agent
        self.prompt = prompt  # tokens, as expected
        self.completion = completion
        self.to_baseline = to_baseline  # a spent budget has taken the fine-tune away
        self.amount = 0  # nano-dollars
        self._windows = windows

    def hold(self, price: Price | None, billed: float) -> None:
        """Hold what the call of a model at `price` may cost, beside the US dollars `billed` so far."""
        nano = billed * NANO
        if price is not None:  # dollars per million tokens are thousands of nano-dollars per token
            nano += 1000.0 * (float(self.prompt) * price.input + float(self.completion) * price.output)
        amount = int(nano + 0.5)
        more = amount - self.amount
        self.amount = amount
        for window in self._windows:
            window.reserved += more

    def close(self, cost: float) -> None:
        """Hold nothing any more: the request has cost so many US dollars, often none."""
        amount, self.amount = self.amount, 0
        for window in self._windows:
            window.reserved -= amount
            window.spent += cost


def expected_prompt(body: Body) -> int:
    """The tokens that a request is going to be read as."""
    return len(body.raw) // BYTES_PER_TOKEN


def expected_completion(body: Body, agent: AgentPolicy, typical: Typical) -> int:
    """The tokens that its answer is going to have at most; where nothing limits it, as many as usual."""
    longest = _count(body, "max_completion_tokens") or _count(body, "max_tokens") or agent.max_tokens or 0
    completion = longest * (_count(body, "n") or 1) if longest else int(typical.completion + 0.5)
    return min(completion, MOST_COMPLETION)


def _count(body: Body, name: str) -> int:
    """A member that is a positive integer; 0 where it is anything else, which the upstream will refuse."""
    value = body.get(name)
    return value if type(value) is int and value > 0 else 0

"""What a simulation takes for granted: the traffic, the fine-tune, and how often anybody looks.  Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """The users of one agent, all on the baseline."""

    users_per_day: int = 2000  # distinct ones
    requests_per_user: float = 5.0  # mean, of a user on a day that they come
    spread: float = 1.0  # standard deviation of its logarithm between users: the heavy ones
    returning: float = 0.6  # share of a day's users who have come before
    success: float = 0.98
    heterogeneity: float = 0.02  # standard deviation of the failure rate between users
    drift: float = 0.0  # change of the success rate by the day, for everybody
    latency: float = 2.0  # seconds, median
    latency_spread: float = 0.6  # standard deviation of its logarithm, between a user's requests
    latency_between: float = 0.3  # and between users
    cost: float = 0.002  # US dollars, median
    cost_spread: float = 0.6
    cost_between: float = 0.5

    def __post_init__(self) -> None:
        """Raises ValueError where no such traffic can be."""
        failing = 1 - self.success
        if self.heterogeneity and self.heterogeneity**2 >= failing * self.success:
            most = (failing * self.success) ** 0.5
            raise ValueError(f"failure rates with mean {failing:.4g} differ by less than {most:.4g} between users")


@dataclass(frozen=True, slots=True)
class Effect:
    """What the fine-tune does, by intention to treat."""

    success: float = 0.0  # -0.02: two points fewer requests are answered
    rescued: float = 0.005  # share of its requests that fail there and that the baseline answers
    latency: float = 0.0  # 0.1: a tenth longer
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """How long a ramp is watched, and how often."""

    days: int = 14
    looks: int = 4  # a day

    @property
    def seconds(self) -> float:
        """Between two looks."""
        return 86400 / self.looks

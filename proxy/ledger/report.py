"""What happened in some hours, by agent and variant: read from the sums, never from the requests.

- A variant is the assigned one: who was rescued by the baseline still counts as fine-tuned.
- All but `users` and the quantiles of two reports add up; those come of the united visits and bins.
- Requests without a user, and with an override, stand apart: they compare nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, NamedTuple

from proxy.ledger.database import Database
from proxy.ledger.row import middle_of
from proxy.words import Assignment, Variant

HOUR = 3600


class Window(NamedTuple):
    """Whole Unix hours; `until` is the first one after it."""

    since: int
    until: int


def window_of(since: float, until: float) -> Window:
    """The hours in which the time from `since` to `until` (Unix seconds) lies; both edges are rounded outwards."""
    return Window(floor(since / HOUR), ceil(until / HOUR))


@dataclass(frozen=True, slots=True)
class Group:
    """The requests of one agent that came to one variant in one way; times in seconds, cost in US dollars."""

    assignment: str
    variant: str
    users: int  # distinct ones; who came in two ways is in both groups
    latencies: Mapping[int, int]  # requests by bin
    ttfts: Mapping[int, int]  # streams by bin
    fallbacks: Mapping[str, int]  # requests by reason
    failures: Mapping[str, int]
    requests: int
    ok: int  # answered, by whichever model
    first_ok: int  # answered by the assigned model at the first attempt
    streams: int
    input: int  # tokens
    output: int
    cached: int
    reasoning: int
    estimated: int  # requests whose tokens the upstream never told
    cost: float
    rated: int
    score: float  # the sum of ratings, each 0 … 1

    @property
    def success(self) -> float | None:
        """By intention to treat."""
        return _ratio(self.ok, self.requests)

    @property
    def first_attempt(self) -> float | None:
        """The share that the assigned model answered by itself."""
        return _ratio(self.first_ok, self.requests)

    @property
    def cost_per_request(self) -> float | None:
        """US dollars."""
        return _ratio(self.cost, self.requests)

    @property
    def estimated_share(self) -> float | None:
        """The share of requests whose tokens are our estimate."""
        return _ratio(self.estimated, self.requests)

    @property
    def rating(self) -> float | None:
        """The mean of the ratings."""
        return _ratio(self.score, self.rated)


@dataclass(frozen=True, slots=True)
class AgentReport:
    """One agent: its compared groups first."""

    agent: str
    groups: tuple[Group, ...]

    def group(self, assignment: Assignment) -> Group | None:
        """The first group of an assignment; None where it has no requests."""
        return next((group for group in self.groups if group.assignment == assignment), None)


@dataclass(frozen=True, slots=True)
class Report:
    """All agents that had requests, by name."""

    window: Window
    agents: tuple[AgentReport, ...]


def quantile(bins: Mapping[int, int], share: float) -> float | None:
    """Seconds that `share` of the requests took at most, within 2.5 %; None where there are none.

    The nearest rank: the smallest value that at least `share` of all are not above.
    """
    rank = max(1, ceil(share * sum(bins.values())))
    passed = 0
    for number in sorted(bins):
        passed += bins[number]
        if passed >= rank:
            return middle_of(number)
    return None


def read_report(database: Database, window: Window, agents: Sequence[str] = ()) -> Report:
    """The report of a window; of all agents where none are named.  Raises DatabaseUnavailable."""
    where = "hour >= ? AND hour < ?"
    if agents:
        where += f" AND agent IN ({', '.join('?' * len(agents))})"
    parameters = (*window, *agents)
    with database.transaction():  # of one moment
        sums = {row[:3]: row[3:] for row in database.execute(_SUMS.format(where), parameters)}
        users = {key: int(database.execute(_USERS, (*window, *key))[0][0]) for key in sums}
        bins = _nested(database, _COUNTS.format("bins", "bin", where), parameters)
        reasons = _nested(database, _COUNTS.format("reasons", "reason", where), parameters)
    found: dict[str, list[Group]] = {}
    for key in sorted(sums, key=_place):
        agent, assignment, variant = key
        group = Group(
            assignment,
            variant,
            users[key],
            bins.get((*key, "latency"), {}),
            bins.get((*key, "ttft"), {}),
            reasons.get((*key, "fallback"), {}),
            reasons.get((*key, "failure"), {}),
            *sums[key],
        )
        found.setdefault(agent, []).append(group)
    return Report(window, tuple(AgentReport(agent, tuple(groups)) for agent, groups in found.items()))


_ORDER = {assignment.value: place for place, assignment in enumerate(Assignment)}


def _place(key: tuple[str, str, str]) -> tuple[str, int, bool]:
    agent, assignment, variant = key
    return agent, _ORDER[assignment], variant == Variant.BASELINE


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _nested(database: Database, statement: str, parameters: Sequence[object]) -> dict[Any, dict[Any, int]]:
    """Counts by the last column but one, for what stands before it."""
    found: dict[Any, dict[Any, int]] = {}
    for *key, name, count in database.execute(statement, parameters):
        found.setdefault(tuple(key), {})[name] = count
    return found


# The sums in the order of `Group`'s fields.  PostgreSQL's sum of a bigint is a numeric.
_SUMS = (
    "SELECT agent, assignment, variant, CAST(sum(requests) AS bigint), CAST(sum(ok) AS bigint),"
    " CAST(sum(first_ok) AS bigint), CAST(sum(streams) AS bigint), CAST(sum(input) AS bigint),"
    " CAST(sum(output) AS bigint), CAST(sum(cached) AS bigint), CAST(sum(reasoning) AS bigint),"
    " CAST(sum(estimated) AS bigint), sum(cost), CAST(sum(rated) AS bigint), sum(score)"
    " FROM hours WHERE {} GROUP BY agent, assignment, variant"
)
# One group at a time, hour by hour: its users fit in memory, and CROSS keeps SQLite from taking the visits first.
_USERS = (
    "SELECT count(*) FROM (SELECT DISTINCT visits.unit FROM hours CROSS JOIN visits"
    " WHERE hours.hour >= ? AND hours.hour < ? AND hours.agent = ? AND hours.assignment = ? AND hours.variant = ?"
    " AND visits.hour = hours.hour AND visits.agent = hours.agent AND visits.assignment = hours.assignment"
    " AND visits.variant = hours.variant) AS users"
)
_COUNTS = (
    "SELECT agent, assignment, variant, kind, {1}, CAST(sum(requests) AS bigint) FROM {0} WHERE {2}"
    " GROUP BY agent, assignment, variant, kind, {1} ORDER BY 6 DESC, 5"
)

"""The Prometheus metrics of DESIGN §3.7.

Settling a request is a few additions on plain numbers: the event loop is the only writer, so there
is no lock, and the exposition is built when somebody scrapes.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from proxy import __version__, is_compiled
from proxy.words import Attempt, Record

# Language models answer in 0.1 s to 2 min; the alerts' thresholds (5 s, 10 s) are bucket edges.
LATENCY_BUCKETS: Final[tuple[float, ...]] = (
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    3.0,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    60.0,
    120.0,
)
TTFT_BUCKETS: Final[tuple[float, ...]] = (
    0.025,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    30.0,
)
# How many series of agents and models that left the policy are kept: a scrape is to see their last counts.
GONE_KEPT: Final = 256
# So many kinds of records are found again without a dict.
_KINDS_KEPT: Final = 24
OTHER: Final = "other"
OVERHEAD_BUCKETS: Final[tuple[float, ...]] = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.05,
    0.1,
    0.5,
)
# The loop's timers are good to a millisecond; from a tenth of a second on clients notice.
LAG_BUCKETS: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PICO: Final = 10**12

Plain = dict[Any, Any]  # names and numbers, in dicts, tuples and lists


class Histogram:
    """Counts per bucket; `bounds` are upper bounds in seconds, inclusive."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        place = 0
        for bound in self.bounds:  # compiled, faster than a bisection
            if value <= bound:
                break
            place += 1
        self.counts[place] += 1
        self.total += value

    def plain(self) -> Plain:
        """As plain values; times in picoseconds, because sums of whole numbers never come out less."""
        return {"counts": self.counts[:], "total": round(self.total * PICO)}

    def load(self, plain: Plain) -> None:
        """Hold what `plain` says."""
        self.counts, self.total = list(plain["counts"]), plain["total"] / PICO

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus's `le` buckets."""
        running = 0
        buckets = []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


class ModelSeries:
    """Everything counted per (agent, variant, model)."""

    __slots__ = (
        "cached", "cost", "errors", "input", "latency", "outcomes", "output", "reasoning", "successes", "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.successes = 0
        self.outcomes: defaultdict[str, int] = defaultdict(int)  # other than success
        self.errors: defaultdict[str, int] = defaultdict(int)
        self.input = self.output = self.cached = self.reasoning = 0  # tokens
        self.cost = 0.0  # US dollars
        self.latency = Histogram(LATENCY_BUCKETS)
        self.ttft = Histogram(TTFT_BUCKETS)

    @property
    def tokens(self) -> dict[str, int]:
        """By type, those that there were any of."""
        counts = {"input": self.input, "output": self.output, "cached": self.cached, "reasoning": self.reasoning}
        return {kind: count for kind, count in counts.items() if count}

    def plain(self) -> Plain:
        """As plain values; the cost in picodollars."""
        return {
            "successes": self.successes,
            "cost": round(self.cost * PICO),
            "outcomes": _plain(self.outcomes),
            "errors": _plain(self.errors),
            "tokens": self.tokens,
            "latency": self.latency.plain(),
            "ttft": self.ttft.plain(),
        }

    def load(self, plain: Plain) -> None:
        """Hold what `plain` says."""
        self.successes, self.cost = plain["successes"], plain["cost"] / PICO
        self.outcomes.update(plain["outcomes"])
        self.errors.update(plain["errors"])
        for kind, count in plain["tokens"].items():
            setattr(self, kind, count)
        self.latency.load(plain["latency"])
        self.ttft.load(plain["ttft"])


class _Count:
    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value


class _Kind:
    """Where records with these very words are counted."""

    __slots__ = ("agent", "assigned", "assignment", "series", "served", "variant")

    def __init__(
        self, agent: str, variant: str, served: str, assignment: str, series: ModelSeries, assigned: _Count
    ) -> None:
        self.agent = agent
        self.variant = variant
        self.served = served
        self.assignment = assignment
        self.series = series
        self.assigned = assigned


class Metrics:
    """Takes records; yields metric families to a scrape, as prometheus_client asks of a collector."""

    def __init__(self, known_models: Callable[[], frozenset[str]], gauges: Callable[[], Iterable[Metric]]) -> None:
        """`known_models`: the policy's own list, the only names that become labels."""
        self._known_models = known_models
        self._gauges = gauges
        self._models: dict[tuple[str, str, str], ModelSeries] = {}
        self._fallbacks: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._assignments: dict[tuple[str, str], _Count] = {}
        self._adapted: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._kinds: list[_Kind] = []  # of the latest records: a few looks are cheaper than hashing six words
        self.overhead = Histogram(OVERHEAD_BUCKETS)
        self.lag = Histogram(LAG_BUCKETS)  # observed by who has a timer
        self._build = (__version__, str(is_compiled()).lower())

    def take(self, records: Sequence[Record]) -> None:
        """Count finished requests."""
        for record in records:
            self.settle(record)

    def settle(self, record: Record) -> None:
        """Count one."""
        kind = self._kind_of(record)
        kind.assigned.value += 1
        series, failure, fallback = kind.series, record.failure, record.fallback
        latency, ttft, usage, cost = record.latency, record.ttft, record.usage, record.cost
        if failure is None:
            series.successes += 1
        else:
            series.outcomes[failure] += 1
            if record.status != 499:
                series.errors[failure] += 1
        series.latency.observe(latency)
        if ttft >= 0:
            series.ttft.observe(ttft)
        if usage is not None:
            series.input += usage.prompt
            series.output += usage.completion
            series.cached += usage.cached
            series.reasoning += usage.reasoning
        if cost:
            if kind.served and len(record.attempts) == 1:
                series.cost += cost
            else:
                self._add_costs(kind.agent, kind.variant, record.attempts)
        if fallback is not None:
            self._fallbacks[kind.agent, fallback] += 1
        self.overhead.observe(latency - record.blocked)
        for field in record.adapted:
            self._adapted[kind.agent, field] += 1

    def _kind_of(self, record: Record) -> _Kind:
        agent, served, decision = record.agent, record.served, record.decision
        variant, assignment = decision.variant, decision.assignment
        for kind in self._kinds:
            if (
                kind.agent is agent and kind.served is served and kind.variant is variant
                and kind.assignment is assignment
            ):  # fmt: skip
                return kind
        assigned = self._assignments.setdefault((agent, assignment), _Count())
        kind = _Kind(agent, variant, served, assignment, self._series((agent, variant, served)), assigned)
        if not served or served in self._known_models():  # the policy may learn other models, but never none
            if len(self._kinds) >= _KINDS_KEPT:
                self._kinds.clear()
            self._kinds.append(kind)
        return kind

    def _add_costs(self, agent: str, variant: str, attempts: tuple[Attempt, ...]) -> None:
        """Each attempt's cost to its own model."""
        for attempt in attempts:
            if attempt.cost:
                self._series((agent, variant, attempt.model)).cost += attempt.cost

    def _series(self, key: tuple[str, str, str]) -> ModelSeries:
        series = self._models.get(key)
        if series is None:
            agent, variant, served = key
            if served not in self._known_models():
                key = (agent, variant, OTHER)
            series = self._models.setdefault(key, ModelSeries())
        return series

    def keep(self, agents: Container[str], models: Container[str]) -> None:
        """The policy's agents and models from now on; of others no more than `GONE_KEPT` series stay."""
        gone = [
            key
            for key in self._models
            if not ((key[0] in agents or key[0] == OTHER) and (key[2] in models or key[2] == OTHER))
        ]
        if len(gone) <= GONE_KEPT:
            return
        self._kinds.clear()
        for key in gone:
            del self._models[key]
        counted: tuple[dict[tuple[str, str], Any], ...] = (self._fallbacks, self._assignments, self._adapted)
        for counts in counted:
            for pair in [pair for pair in counts if pair[0] not in agents and pair[0] != OTHER]:
                del counts[pair]

    def plain(self) -> Plain:
        """All counts as plain values, for another process: `totals.add` adds them up."""
        return {
            "series": {(str(key[0]), str(key[1]), str(key[2])): series.plain() for key, series in self._models.items()},
            "fallbacks": _plain_pairs(self._fallbacks),
            "assignments": _plain_pairs({pair: count.value for pair, count in self._assignments.items()}),
            "adapted": _plain_pairs(self._adapted),
            "overhead": self.overhead.plain(),
            "lag": self.lag.plain(),
        }

    def load(self, plain: Plain) -> None:
        """Hold what `plain` says, and nothing else."""
        self._models.clear()
        self._kinds.clear()
        for key, counts in plain["series"].items():
            series = self._models[key] = ModelSeries()
            series.load(counts)
        self._assignments = {pair: _Count(count) for pair, count in plain["assignments"].items()}
        for name, pairs in (("fallbacks", self._fallbacks), ("adapted", self._adapted)):
            pairs.clear()
            pairs.update(plain[name])
        self.overhead.load(plain["overhead"])
        self.lag.load(plain["lag"])

    # These two are called from other threads too: a list of a dict is made in one step.

    def series(self) -> list[tuple[tuple[str, str, str], ModelSeries]]:
        """By agent, variant and model."""
        return list(self._models.items())

    def fallbacks(self) -> list[tuple[tuple[str, str], int]]:
        """Requests whose fine-tune was left, by agent and reason."""
        return list(self._fallbacks.items())

    def collect(self) -> Iterator[Metric]:
        """The exposition, built now."""
        labels = ["agent", "variant", "model"]
        requests = CounterMetricFamily("model_requests", "Requests by outcome.", labels=[*labels, "outcome"])
        errors = CounterMetricFamily("model_errors", "Failed requests by reason.", labels=[*labels, "reason"])
        tokens = CounterMetricFamily("model_tokens", "Tokens by type.", labels=[*labels, "type"])
        cost = CounterMetricFamily(
            "model_cost_usd", "US dollars, each attempt at its own model's price.", labels=labels
        )
        latency = HistogramMetricFamily("model_latency_seconds", "Request to last byte.", labels=labels)
        ttft = HistogramMetricFamily("model_ttft_seconds", "Request to first content.", labels=labels)
        for key, series in self._models.items():
            requests.add_metric([*key, "success"], series.successes)
            for outcome, count in series.outcomes.items():
                requests.add_metric([*key, outcome], count)
            for reason, count in series.errors.items():
                errors.add_metric([*key, reason], count)
            for kind, count in series.tokens.items():
                tokens.add_metric([*key, kind], count)
            cost.add_metric(key, series.cost)
            latency.add_metric(key, series.latency.cumulative(), series.latency.total)
            ttft.add_metric(key, series.ttft.cumulative(), series.ttft.total)
        yield from (requests, errors, tokens, cost, latency, ttft)

        fallbacks = CounterMetricFamily("model_fallbacks", "Fine-tunes rescued.", labels=["agent", "reason"])
        for pair, count in self._fallbacks.items():
            fallbacks.add_metric(pair, count)
        assignments = CounterMetricFamily(
            "splitlane_assignments", "Requests by assignment.", labels=["agent", "variant"]
        )
        for pair, assigned in self._assignments.items():
            assignments.add_metric(pair, assigned.value)
        adapted = CounterMetricFamily(
            "splitlane_adapted_fields",
            "Request fields renamed or dropped for a dialect.",
            labels=["agent", "field"],
        )
        for pair, count in self._adapted.items():
            adapted.add_metric(pair, count)
        yield from (fallbacks, assignments, adapted)

        for name, text, histogram in (
            ("splitlane_overhead_seconds", "Own time: total minus time blocked on the upstream.", self.overhead),
            ("splitlane_loop_lag_seconds", "How late the event loop's timer ran.", self.lag),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        build = GaugeMetricFamily("splitlane_build_info", "The running program.", labels=["version", "compiled"])
        build.add_metric(self._build, 1)
        yield build
        yield from self._gauges()


def _plain(counts: dict[str, int]) -> Plain:
    return {str(name): count for name, count in counts.items()}  # some are words of ours, which marshal refuses


def _plain_pairs(counts: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    return {(str(one), str(other)): count for (one, other), count in counts.items()}


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge of one value."""
    return GaugeMetricFamily(name, text, value=value)

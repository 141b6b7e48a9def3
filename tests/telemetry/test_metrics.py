"""The metrics of DESIGN §3.7 as a scrape reads them.  ACCEPTANCE 37 and 38 (series count)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.metrics import GONE_KEPT, LATENCY_BUCKETS, TTFT_BUCKETS, Histogram, Metrics, gauge
from proxy.words import Assignment, Decision, Failure, Record, Variant
from tests.support.records import SOUND as SUCCESS

FINETUNED, BASELINE = "ft:m", "m"
KNOWN = frozenset({FINETUNED, BASELINE})
LABELS = {"agent": "qa_agent", "variant": "finetuned", "model": FINETUNED}


class Scrape:
    """One scrape's samples."""

    def __init__(self, metrics: Metrics) -> None:
        registry = CollectorRegistry()
        registry.register(metrics)
        self.text = generate_latest(registry).decode()
        self.families = list(text_string_to_metric_families(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum of all samples of a name that have these labels."""
        return sum(
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        )


def scrape(records: Sequence[Record] = (), gauges: Iterable[Metric] = ()) -> Scrape:
    metrics = Metrics(lambda: KNOWN, lambda: gauges)
    for record in records:
        metrics.settle(record)
    return Scrape(metrics)


# --- one record -------------------------------------------------------------------------------------


def test_success_is_counted_under_who_was_assigned_and_what_answered() -> None:
    found = scrape([SUCCESS])
    assert found.total("model_requests_total", **LABELS, outcome="success") == 1
    assert found.total("model_requests_total") == 1
    assert found.total("model_errors_total") == 0
    assert found.total("model_latency_seconds_count", **LABELS) == 1
    assert found.total("model_latency_seconds_sum", **LABELS) == pytest.approx(1.2)
    assert found.total("model_ttft_seconds_sum", **LABELS) == pytest.approx(0.4)
    assert found.total("splitlane_overhead_seconds_sum") == pytest.approx(0.2)
    assert found.total("splitlane_assignments_total", agent="qa_agent", variant="finetuned") == 1


@pytest.mark.parametrize(("kind", "count"), [("input", 19), ("output", 10), ("cached", 8), ("reasoning", 4)])
def test_tokens_are_counted_by_type(kind: str, count: int) -> None:
    found = scrape([SUCCESS, SUCCESS, replace(SUCCESS, usage=None)])
    assert found.total("model_tokens_total", **LABELS, type=kind) == 2 * count


def test_rescued_request_is_a_success_of_the_assigned_variant_and_a_fallback() -> None:
    found = scrape([replace(SUCCESS, served=BASELINE, fallback=Failure.SERVER_ERROR)])
    labels = {**LABELS, "model": BASELINE}
    assert found.total("model_requests_total", **labels, outcome="success") == 1
    assert found.total("model_fallbacks_total", agent="qa_agent", reason="server_error") == 1
    assert found.total("model_errors_total") == 0


@pytest.mark.parametrize("failure", Failure)
def test_failure_is_an_outcome_and_an_error_by_its_word(failure: Failure) -> None:
    found = scrape([replace(SUCCESS, failure=failure, status=502, ttft=-1.0, usage=None)])
    assert found.total("model_requests_total", **LABELS, outcome=failure.value) == 1
    assert found.total("model_errors_total", **LABELS, reason=failure.value) == 1
    assert found.total("model_ttft_seconds_count") == 0


def test_client_that_left_is_an_outcome_and_no_error() -> None:
    found = scrape([replace(SUCCESS, failure=Failure.CLIENT_GONE, status=499)])
    assert found.total("model_requests_total", outcome="client_gone") == 1
    assert found.total("model_errors_total") == 0


@pytest.mark.parametrize("assignment", Assignment)
def test_assignments_are_counted_by_how_they_came_about(assignment: Assignment) -> None:
    found = scrape([replace(SUCCESS, decision=Decision(Variant.BASELINE, assignment, -1))])
    assert found.total("splitlane_assignments_total", variant=assignment.value) == 1
    assert found.total("model_requests_total", variant="baseline") == 1


def test_fields_adapted_for_a_dialect_are_counted_by_name() -> None:
    found = scrape([replace(SUCCESS, adapted=("user", "seed")), replace(SUCCESS, adapted=("user",))])
    assert found.total("splitlane_adapted_fields_total", agent="qa_agent", field="user") == 2
    assert found.total("splitlane_adapted_fields_total", agent="qa_agent", field="seed") == 1


# --- many records -----------------------------------------------------------------------------------

failures = st.one_of(st.none(), st.sampled_from(list(Failure)))
records = st.builds(
    partial(replace, SUCCESS),
    failure=failures,
    fallback=failures,
    agent=st.sampled_from(["qa_agent", "legal_agent", "other"]),
    served=st.sampled_from([FINETUNED, BASELINE, "", "unheard-of"]),
    decision=st.builds(Decision, st.sampled_from(Variant), st.sampled_from(Assignment), st.just(-1)),
    status=st.sampled_from([200, 400, 499, 502]),
    latency=st.floats(0, 1000),
    ttft=st.sampled_from([-1.0, 0.0, 0.1, 99.0]),
)


@given(st.lists(records, max_size=30))
def test_outcomes_latencies_and_assignments_each_add_up_to_the_requests(records: list[Record]) -> None:
    found = scrape(records)
    assert found.total("model_requests_total") == len(records)
    assert found.total("model_latency_seconds_count") == len(records)
    assert found.total("splitlane_overhead_seconds_count") == len(records)
    assert found.total("splitlane_assignments_total") == len(records)
    assert found.total("model_fallbacks_total") == sum(each.fallback is not None for each in records)
    assert found.total("model_ttft_seconds_count") == sum(each.ttft >= 0 for each in records)


def test_each_scrape_goes_on_from_the_one_before() -> None:
    metrics = Metrics(lambda: KNOWN, lambda: ())
    for count in range(1, 4):
        metrics.settle(SUCCESS)
        assert Scrape(metrics).total("model_requests_total") == count
        assert Scrape(metrics).total("model_requests_total") == count


def test_ten_thousand_unknown_models_make_one_series() -> None:
    found = scrape([replace(SUCCESS, served=f"model-{number}") for number in range(10_000)])
    assert found.total("model_requests_total", model="other") == 10_000
    assert {sample.labels["model"] for sample in found.samples if "model" in sample.labels} == {"other"}


def test_series_of_what_left_the_policy_stay_for_a_scrape_and_never_pile_up() -> None:
    models = {FINETUNED}
    metrics = Metrics(lambda: frozenset(models), lambda: ())
    rescued = replace(SUCCESS, fallback=Failure.RESET, adapted=("seed",))
    for number in range(5_000):
        models = {f"model-{number}"}
        metrics.settle(replace(rescued, agent=f"agent-{number}", served=f"model-{number}"))
        metrics.settle(rescued)
        metrics.keep({"qa_agent"}, {FINETUNED})
        if number == GONE_KEPT - 1:
            assert Scrape(metrics).total("model_requests_total", agent="agent-0") == 1
    scraped = Scrape(metrics)
    for name in ("model_requests_total", "model_fallbacks_total", "splitlane_assignments_total"):
        assert sum(sample.name == name for sample in scraped.samples) <= GONE_KEPT + 1
    assert sum(sample.name == "splitlane_adapted_fields_total" for sample in scraped.samples) <= GONE_KEPT + 1
    assert scraped.total("model_requests_total", agent="qa_agent") == 5_000


def test_model_that_the_policy_learns_gets_its_name() -> None:
    known = {BASELINE}
    metrics = Metrics(lambda: frozenset(known), lambda: ())
    metrics.settle(SUCCESS)
    assert Scrape(metrics).total("model_requests_total", model="other") == 1
    known.add(FINETUNED)
    metrics.settle(SUCCESS)
    assert Scrape(metrics).total("model_requests_total", model=FINETUNED) == 1
    assert Scrape(metrics).total("model_requests_total", model="other") == 1


# --- the exposition ---------------------------------------------------------------------------------

EXPECTED = {
    "model_requests": {"agent", "variant", "model", "outcome"},
    "model_latency_seconds": {"agent", "variant", "model"},
    "model_ttft_seconds": {"agent", "variant", "model"},
    "model_errors": {"agent", "variant", "model", "reason"},
    "model_fallbacks": {"agent", "reason"},
    "model_tokens": {"agent", "variant", "model", "type"},
    "splitlane_overhead_seconds": set(),
    "splitlane_assignments": {"agent", "variant"},
    "splitlane_adapted_fields": {"agent", "field"},
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_metric_has_its_labels_and_a_help_text(name: str) -> None:
    found = scrape([replace(SUCCESS, failure=Failure.RESET, fallback=Failure.RESET, adapted=("user",))])
    (family,) = [family for family in found.families if family.name == name]
    assert {label for sample in family.samples for label in sample.labels} - {"le"} == EXPECTED[name]
    assert family.documentation.endswith(".")
    assert family.type == ("histogram" if name.endswith("seconds") else "counter")


def test_no_user_prompt_or_id_is_in_a_scrape() -> None:
    found = scrape([SUCCESS])
    for secret in (SUCCESS.request_id, SUCCESS.salt, SUCCESS.policy_hash):
        assert f'"{secret}"' not in found.text


def test_scrape_without_requests_is_sound() -> None:
    assert scrape().total("model_requests_total") == 0


def test_gauges_are_read_at_the_scrape() -> None:
    found = scrape(gauges=[gauge("splitlane_in_flight", "Requests being served.", 7)])
    assert found.total("splitlane_in_flight") == 7


# --- histograms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [LATENCY_BUCKETS, TTFT_BUCKETS])
@given(values=st.lists(st.floats(0, 1000), max_size=30))
def test_bucket_holds_what_is_at_most_its_bound(bounds: tuple[float, ...], values: list[float]) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    expected = [(str(bound), sum(value <= bound for value in values)) for bound in bounds]
    assert histogram.cumulative() == [*expected, ("+Inf", len(values))]
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize("threshold", [5.0, 10.0])
def test_thresholds_of_the_alerts_are_bucket_edges(threshold: float) -> None:
    assert threshold in LATENCY_BUCKETS

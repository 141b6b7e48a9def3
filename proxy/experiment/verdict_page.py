"""A finding as blocks of a page: the recommendation first, then the evidence.  Pure."""

from collections.abc import Callable, Iterator, Sequence

from proxy.experiment.advice import advice_of, in_words, said
from proxy.experiment.findings import Arms, Finding
from proxy.experiment.memory import Decision
from proxy.experiment.verdict import Because, GateVerdict
from proxy.ledger.figures import NOTHING, dollars, minute, percentage, points, score, seconds, share, signed, whole
from proxy.ledger.page import Block, Heading, Notes, Paragraph, Table
from proxy.policy.units import show_duration

LEGEND = (
    "assigned: by the variant a user was assigned, whoever answered (intention to treat). This is what decides.",
    "served: by who answered. A request that left the fine-tune, for whatever reason, counts for the baseline.",
    "served decides nothing: each failure that is rescued makes the fine-tune look better than it is.",
    "worse by: over the whole ramp, stage by stage, by user; above 0 is worse, whatever the metric.",
    "interval: always valid, however often one looks. Its ends are one-sided bounds.",
    "pass: the interval ends below the margin. fail: it begins above 0, and the estimate is above the margin.",
    "users: distinct ones; who is in several stages is in each.",
    "this stage: from the hour in which it began, which may hold requests of the stage before.",
)
SUMMARY = ("agent", "percentage", "recommendation")

_METRICS: dict[str, Callable[[float], str]] = {"latency_mean": seconds, "cost": dollars, "feedback": score}


def summary_of(findings: Sequence[Finding]) -> Table:
    """All agents, a line each."""
    rows = [(each.agent, percentage(each.evidence.percentage), sentence_of(each)) for each in findings]
    return Table(SUMMARY, rows, frozenset({2}))


def sentence_of(finding: Finding) -> str:
    """The recommendation."""
    return advice_of(finding.verdict, finding.rollout.on_fail).sentence


def blocks_of(finding: Finding) -> Iterator[Block]:
    """One agent."""
    verdict = finding.verdict
    yield Heading(2, f"{finding.agent} at {percentage(finding.evidence.percentage)}")
    yield Paragraph(sentence_of(finding), strong=True)
    told = [*_reasons("", verdict.because), *_reasons("warning: ", verdict.warnings)]
    if told:
        yield Notes(told)
    if finding.stages:
        yield _stages(finding)
    if finding.stage_hours:
        yield _views(finding)
    if verdict.gates:
        yield Table(
            ("gate", "kind", "fine-tuned", "baseline", "worse by", "interval", "margin", "outcome"),
            [_gate(gate) for gate in verdict.gates],
            frozenset({1, 7}),
        )
    yield _health(finding)
    if finding.decisions:
        rows = [_decided(each) for each in finding.decisions]
        yield Table(("decided", "what", "by", "because"), rows, frozenset({1, 2, 3}))


def _reasons(prefix: str, reasons: Sequence[Because]) -> Iterator[str]:
    for each in reasons:
        wait = "" if each.eta is None else f" ({in_words(each.eta)} more)"
        yield f"{prefix}{each}: {said(each)}{wait}"


def _stages(finding: Finding) -> Table:
    head = ["stage", "since", *(f"{what} {arm}" for what in ("users", "requests", "success") for arm in ARMS)]
    rows = []
    for line in finding.stages:
        arms = line.arms
        rows.append(
            [
                percentage(line.percentage),
                NOTHING if line.since is None else minute(line.since),
                *map(whole, line.users),
                *(whole(arm.requests) for arm in arms),
                *(_or_nothing(arm.success, share) for arm in arms),
            ]
        )
    return Table(head, rows, frozenset({1}))


ARMS = ("fine-tuned", "baseline")


def _views(finding: Finding) -> Table:
    head = ("this stage", *ARMS, "difference")
    rows = []
    for title, arms in (("assigned, which decides", finding.assigned), ("served", finding.served)):
        rows.append((f"requests {title}", *(whole(arm.requests) for arm in arms), ""))
        rows.append((f"success {title}", *(_or_nothing(arm.success, share) for arm in arms), _difference(arms)))
    per_thousand = tuple(arm.cost / arm.requests * 1000 if arm.requests else None for arm in finding.assigned)
    treated, control = per_thousand
    extra = (
        NOTHING if treated is None or control is None else signed(treated - control, dollars(abs(treated - control)))
    )
    rows.append(("cost per 1,000 requests", *(_or_nothing(cost, dollars) for cost in per_thousand), extra))
    return Table(head, rows)


def _difference(arms: Arms) -> str:
    treated, control = arms.finetuned.success, arms.baseline.success
    return NOTHING if treated is None or control is None else signed(treated - control, points(abs(treated - control)))


def _gate(gate: GateVerdict) -> tuple[str, ...]:
    def harm(value: float | None) -> str:
        return NOTHING if value is None else harm_of(gate, value)

    metric = _METRICS.get(gate.gate, share)
    interval = f"{harm(gate.lower)} … {harm(gate.upper)}"
    return (
        gate.gate,
        gate.kind,
        _or_nothing(gate.finetuned, metric),
        _or_nothing(gate.baseline, metric),
        harm(gate.estimate),
        NOTHING if gate.lower is None and gate.upper is None else interval,
        harm(gate.margin),
        str(gate.outcome) if gate.because is None else f"{gate.outcome}: {gate.because.reason}",
    )


def harm_of(gate: GateVerdict, value: float) -> str:
    """A value on the gate's harm scale as people read it: `+1.20 pp`, `+10.00 %`, `+0.050`."""
    match gate.scale:
        case "relative":
            return signed(value, share(abs(value)))
        case "score":
            return signed(value, score(abs(value)))
        case _:
            return signed(value, points(abs(value)))


def _health(finding: Finding) -> Table:
    """What must be in order for all else to count."""
    evidence, health, gates = finding.evidence, finding.rollout.health, finding.rollout.gates
    ceiling = gates.fallback_rate
    age, fresh = (
        None if newest is None else max(0.0, evidence.now - newest)
        for newest in (evidence.newest, evidence.newest_of_any)
    )
    rows = [
        ("sample-ratio mismatch", _or_nothing(finding.verdict.srm_p, _p), f"p ≥ {health.srm.p:g}"),
        (
            "requests that left the fine-tune",
            _or_nothing(finding.fallback_rate, share),
            NOTHING if ceiling is None else f"≤ {share(ceiling.max)}",
        ),
        ("requests without a user", _or_nothing(evidence.missing_users, share), f"≤ {share(health.missing_users.max)}"),
        ("newest record in the store", _or_nothing(fresh, _ago), f"≤ {show_duration(health.stale.max)} ago"),
        ("newest request of the agent", _or_nothing(age, _ago), f"≤ {show_duration(health.no_traffic.grace)} ago"),
    ]
    return Table(("check", "found", "in order"), rows)


def _decided(decision: Decision) -> tuple[str, ...]:
    moved = "" if decision.target is None else f" to {percentage(decision.target)}"
    return minute(decision.time), f"{decision.action}{moved}", decision.actor, "; ".join(decision.reasons) or NOTHING


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.001 else f"p = {value:.1e}"


def _ago(age: float) -> str:
    return f"{in_words(age)} ago"


def _or_nothing(value: float | None, show: Callable[[float], str]) -> str:
    return NOTHING if value is None else show(value)

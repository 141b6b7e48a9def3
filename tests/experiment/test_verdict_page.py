"""A finding on the page: what a manager reads first, and what a statistician reads then."""
# ruff: noqa: E501 – tables are wide

import pytest

from proxy.experiment.memory import Decision
from proxy.experiment.verdict import Because, Outcome, Reason
from proxy.experiment.verdict_page import blocks_of, summary_of
from proxy.ledger.page import markdown_of, text_of
from tests.experiment.verdicts import COST, NOW, SLOW, SUCCESS, WORSE, evidence, finding, verdict

assert SLOW.because is not None
assert WORSE.because is not None
FAILED = WORSE.because
HOLDING = verdict(
    SLOW.because,
    gates=(SUCCESS, SLOW, COST),
    warnings=(Because(Reason.MISSING_USERS, detail="22 % of the requests name no user"),),
)

TEXT = """\
qa_agent at 10 %
================

Hold: 2 days more at today's traffic, because latency_p95 may still be worse than allowed.

INCONCLUSIVE(latency_p95): latency_p95 may still be worse than allowed (between -1.30 pp and +3.10 pp, allowed +2.50 pp) (2 days more)
warning: MISSING_USERS: 22 % of the requests name no user

stage  since                 users fine-tuned  users baseline  requests fine-tuned  requests baseline  success fine-tuned  success baseline
5 %    2026-11-21 09:00 UTC                40             760                  120              2,280             99.17 %           99.61 %
10 %   2026-11-22 09:00 UTC               112             980                  600              5,400             99.83 %           99.83 %

this stage                         fine-tuned  baseline  difference
requests assigned, which decides          720     6,480
success assigned, which decides      100.00 %   99.44 %    +0.56 pp
requests served                           684     6,516
success served                       100.00 %   99.45 %    +0.55 pp
cost per 1,000 requests                $0.200    $0.289     -$0.0889

gate         kind       fine-tuned   baseline   worse by             interval     margin  outcome
success      guardrail     99.10 %    99.02 %   -0.08 pp  -0.51 pp … +0.42 pp   +1.00 pp  pass
latency_p95  guardrail      5.80 %     4.90 %   +0.90 pp  -1.30 pp … +3.10 pp   +2.50 pp  hold: INCONCLUSIVE
cost         signal      $0.000210  $0.000290  -28.00 %  -32.00 % … -23.00 %   +0.00 %  pass

check                             found      in order
sample-ratio mismatch          p = 0.430     p ≥ 0.001
requests that left the fine-tune  5.00 %      ≤ 5.00 %
requests without a user           1.20 %     ≤ 20.00 %
newest record in the store    1 minute ago   ≤ 15m ago
newest request of the agent   1 minute ago    ≤ 1d ago
"""


def squeezed(text: str) -> list[list[str]]:
    """Lines as their words: how wide columns are is the page's business."""
    return [line.split() for line in text.splitlines() if set(line) != {"="}]


def test_holding_agent_as_text() -> None:
    assert squeezed("\n".join(text_of(blocks_of(finding(HOLDING))))) == squeezed(TEXT)


def test_recommendation_comes_first_and_stands_out_in_markdown() -> None:
    lines = list(markdown_of(blocks_of(finding(HOLDING))))
    assert lines[0] == "## qa_agent at 10 %"
    assert lines[2].startswith("**Hold: 2 days more")
    assert "| cost | signal | $0.000210 | $0.000290 | -28.00 % | -32.00 % … -23.00 % | +0.00 % | pass |" in lines


def test_summary_has_a_line_per_agent() -> None:
    failed = verdict(FAILED, agent="legal_agent", outcome=Outcome.FAIL, gates=(WORSE,))
    rows = list(markdown_of((summary_of([finding(HOLDING), finding(failed)]),)))[2:]
    assert [row.split(":")[0] for row in rows] == ["| qa_agent | 10 % | Hold", "| legal_agent | 10 % | Roll back"]


def test_decisions_are_told_newest_first_as_they_come() -> None:
    moved = Decision("b", NOW, "qa_agent", "s", 5.0, "advance", 10.0, (), "anna", {})
    stayed = Decision("a", NOW - 60, "qa_agent", "s", 5.0, "hold", None, ("SOAK", "SRM"), "controller", {})
    lines = list(markdown_of(blocks_of(finding(verdict(), decisions=(moved, stayed)))))
    assert lines[-2:] == [
        "| 2026-11-25 09:00 UTC | advance to 10 % | anna | – |",
        "| 2026-11-25 08:59 UTC | hold | controller | SOAK; SRM |",
    ]


def test_agent_that_nobody_calls_has_dashes_and_no_empty_tables() -> None:
    nothing = verdict(Because(Reason.NO_TRAFFIC), gates=(), srm_p=None)
    held = evidence(stages=(), since=None, newest=None, newest_of_any=None, missing_users=None)
    lines = list(text_of(blocks_of(finding(nothing, evidence=held, stages=(), course=()))))
    assert "Hold, because nobody calls the agent." in lines
    assert sum("–" in line for line in lines) == 5
    assert not any(line.startswith(("gate ", "stage ", "this stage")) for line in lines)


@pytest.mark.parametrize(("p", "shown"), [(1.0, "p = 1.000"), (0.0012, "p = 0.001"), (5.12e-05, "p = 5.1e-05")])
def test_small_p_keeps_its_digits(p: float, shown: str) -> None:
    assert shown in "\n".join(text_of(blocks_of(finding(verdict(srm_p=p)))))

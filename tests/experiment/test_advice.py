"""A verdict in one sentence."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.experiment.advice import Action, advice_of, in_words
from proxy.experiment.verdict import Because, Outcome, Reason, Verdict
from tests.experiment.verdicts import COST, DAY, SLOW, SUCCESS, WORSE, verdict

STILL = "between -1.30 pp and +3.10 pp, allowed +2.50 pp"


@pytest.mark.parametrize(
    ("found", "action", "sentence"),
    [
        (verdict(), Action.PROCEED, "Proceed to 25 %: all 2 gates pass."),
        (verdict(gates=(SUCCESS,)), Action.PROCEED, "Proceed to 25 %: its one gate passes."),
        (
            verdict(gates=(SUCCESS, replace(COST, because=Because(Reason.INSUFFICIENT_USERS, "cost")))),
            Action.PROCEED,
            "Proceed to 25 %: all 2 gates pass (cost for want of data).",
        ),
        (
            verdict(Because(Reason.INSUFFICIENT_USERS, "success", DAY, "4 of 10 users")),
            Action.HOLD,
            "Hold: 24 hours more at today's traffic, because success has seen 4 of 10 users.",
        ),
        (
            verdict(Because(Reason.INSUFFICIENT_USERS, "cost", None, "no stage has data of both arms")),
            Action.HOLD,
            "Hold, because cost cannot be read: no stage has data of both arms.",
        ),
        (
            verdict(Because(Reason.NO_TRAFFIC, detail="no request of the agent yet")),
            Action.HOLD,
            "Hold, because there was no request of the agent yet.",
        ),
        (
            verdict(Because(Reason.SOAK, eta=6 * 3600.0, detail="18.0 h of 24.0 h")),
            Action.HOLD,
            "Hold: 6 hours more, because the stage has lasted 18.0 h of 24.0 h.",
        ),
        (verdict(gates=()), Action.PROCEED, "Proceed to 25 %: no gate is set."),
        (
            verdict(Because(Reason.INCONCLUSIVE, "latency_p95", 2 * DAY, STILL), gates=(SLOW,)),
            Action.HOLD,
            "Hold: 2 days more at today's traffic, because latency_p95 may still be worse than allowed.",
        ),
        (
            verdict(
                Because(Reason.SOAK, eta=3600.0, detail="23 of 24 hours"),
                Because(Reason.INCONCLUSIVE, "cost", 5 * 3600.0, "worse by 3 %; a signal only."),
                Because(Reason.INSUFFICIENT_USERS, eta=60.0),
            ),
            Action.HOLD,
            "Hold: 5 hours more at today's traffic, because cost is worse by 3 %; a signal only; and 2 more reasons.",
        ),
        (
            verdict(Because(Reason.STALE), Because(Reason.SOAK, eta=60.0, detail="23 of 24 hours"), eta=None),
            Action.HOLD,
            "Hold, because the newest data is too old; and 1 more reason.",
        ),
        (
            verdict(WORSE.because or Because(Reason.SRM), outcome=Outcome.FAIL, gates=(WORSE,)),
            Action.ROLL_BACK,
            "Roll back: success is worse by +2.31 pp, certainly by more than +0.40 pp, allowed +1.00 pp.",
        ),
        (
            verdict(Because(Reason.BRAKE, detail="until a person clears it"), outcome=Outcome.FAIL),
            Action.BRAKE,
            "Brake: the fine-tune serves nobody until a person clears it.",
        ),
        (
            verdict(Because(Reason.FAILED)),
            Action.STOPPED,
            "Stopped: a guardrail failed, and nothing moves until a person clears it.",
        ),
        (
            verdict(Because(Reason.PAUSED, detail="release freeze")),
            Action.PAUSED,
            "Paused: nothing moves until a person resumes it (release freeze).",
        ),
        (
            verdict(Because(Reason.APPROVAL), percentage=25.0, next_percentage=50.0),
            Action.APPROVE,
            "Approve 50 %: all 2 gates pass, and a person must agree.",
        ),
        (verdict(Because(Reason.COMPLETE), next_percentage=None), Action.COMPLETE,
         "Complete: there is no further stage."),
        (verdict(Because(Reason.NOT_STARTED)), Action.START,
         "Start when you are ready: nobody is on the fine-tune."),
        (verdict(Because(Reason.OBSERVING, eta=3 * 3600.0)), Action.OBSERVE,
         "Observe: nobody is exposed yet, 3 hours more."),
    ],
)  # fmt: skip
def test_recommendation_is_one_sentence(found: Verdict, action: Action, sentence: str) -> None:
    assert advice_of(found) == (action, sentence)


def test_policy_that_only_pauses_is_not_told_to_roll_back() -> None:
    failed = verdict(Because(Reason.GUARDRAIL_FAIL, "success"), outcome=Outcome.FAIL)
    assert advice_of(failed, "pause") == (
        Action.PAUSE,
        "Pause: success is certainly worse, and by more than allowed.",
    )


REASONS = st.builds(
    Because,
    st.sampled_from(Reason),
    st.sampled_from(["", "success", "cost"]),
    st.none() | st.floats(0, 1e9),
    st.sampled_from(["", "in words", "with a stop."]),
)


@given(st.lists(REASONS, max_size=4), st.sampled_from(Outcome), st.none() | st.floats(0, 1e9))
def test_whatever_the_verdict_there_is_one_line_that_ends(
    because: list[Because], outcome: Outcome, eta: float | None
) -> None:
    action, sentence = advice_of(verdict(*because, outcome=outcome, eta=eta))
    assert sentence.endswith(".")
    assert not sentence.endswith("..")
    assert "\n" not in sentence
    assert "None" not in sentence
    assert (action is Action.PROCEED) == (not because)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 minute"),
        (61.0, "2 minutes"),
        (5400.0, "2 hours"),
        (86400.0, "24 hours"),
        (1.5 * 86400, "2 days"),
        (2 * 86400.0, "2 days"),
        (2 * 86400 + 60, "3 days"),
    ],
)
def test_wait_is_rounded_up(seconds: float, words: str) -> None:
    assert in_words(seconds) == words

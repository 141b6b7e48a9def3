import pytest

from proxy.stub.config import StubConfig
from proxy.stub.faults import NO_FAULT, Fault, FaultError, FaultState, grammar, parse_fault, parse_rule


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("status=500", Fault(status=500)),
        ("status=429,retry_after=0.3,count=2", Fault(status=429, retry_after=0.3, count=2)),
        (" slow=2 , cut=0 ", Fault(slow=2.0, cut=0)),
        ("refuse", Fault(reset=True)),
        ("empty", Fault(empty="choices")),
        ("empty=content", Fault(empty="content")),
        ("model=ft:*,silence,probability=0.5", Fault(model="ft:*", silence=True, probability=0.5)),
        ('status=400,body={"a":1,"b":[2,3]}', Fault(status=400, body='{"a":1,"b":[2,3]}')),
    ],
)
def test_spec_reads_as_fault_and_back(spec: str, fault: Fault) -> None:
    assert parse_fault(spec) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "expected words such as"),
        ("stall", "expected stall=N"),
        ("cut=two", "a whole number"),
        ("cut=1.5", "a whole number"),
        ("cut=-1", "a whole number"),
        ("slow=nan", "such as 0.5"),
        ("slow=inf", "such as 0.5"),
        ("status=99", "an HTTP status"),
        ("probability=2", "such as 0.25"),
        ("reset=1", "expected reset alone"),
        ("empty=all", "expected empty=choices|content"),
        ("slient", "did you mean silence"),
        ("zzz", "expected one of model, count"),
        ("reset,,cut=1", "unknown fault word ''"),
        ("model=", "expected model=text"),
    ],
)
def test_bad_spec_says_in_one_line_what_was_expected(spec: str, expected: str) -> None:
    with pytest.raises(FaultError) as raised:
        parse_fault(spec)
    assert expected in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ft:*=status=500", Fault(model="ft:*", status=500)),
        ("status=500", Fault(status=500)),
        ("reset", Fault(reset=True)),
        ("silence,slow=1", Fault(silence=True, slow=1.0)),
    ],
)
def test_rule_is_a_spec_with_or_without_a_model(text: str, fault: Fault) -> None:
    assert parse_rule(text) == fault


@pytest.mark.parametrize("text", ["=status=500", "gpt-4o=", "gpt-4o", "ft:a=ft:b=reset"])
def test_rule_without_a_readable_spec_is_refused(text: str) -> None:
    with pytest.raises(FaultError):
        parse_rule(text)


def test_every_word_is_in_the_help() -> None:
    lines = grammar().splitlines()
    assert len(lines) == len(Fault.__slots__)
    assert any(line.startswith("  cut=N ") for line in lines)


def test_first_matching_rule_of_the_config_wins() -> None:
    rules = StubConfig(faults={"ft:a": "reset", "ft:*": Fault(status=500)}).fault_rules()
    state = FaultState(rules, 0)
    assert state.pick("ft:a", None).reset
    assert state.pick("ft:b", None).status == 500
    assert state.pick("base", None) == NO_FAULT


def test_count_runs_out_and_the_next_rule_takes_over() -> None:
    state = FaultState([Fault(status=500)], 0)
    state.set(parse_fault("reset,count=2,model=m"))
    assert [state.pick("m", None).reset for _ in range(3)] == [True, True, False]
    assert [each.model for each in state.active()] == ["*"]
    state.clear()
    assert state.pick("m", None) == NO_FAULT


def test_new_rule_replaces_the_one_for_the_same_glob() -> None:
    state = FaultState([], 0)
    state.set(Fault(status=500))
    state.set(Fault(status=503))
    assert state.active() == [Fault(status=503)]


def test_call_that_asks_for_a_fault_gets_it_where_its_model_matches() -> None:
    state = FaultState([Fault(status=500, count=1)], 0)
    assert state.pick("ft:a", Fault(model="ft:*", reset=True)).reset
    assert state.pick("base", Fault(model="ft:*", reset=True)).status == 500


def test_probability_strikes_about_that_share_and_the_same_calls_for_a_seed() -> None:
    def struck(seed: int) -> list[bool]:
        state = FaultState([Fault(reset=True, probability=0.3)], seed)
        return [state.pick("m", None).reset for _ in range(1000)]

    assert 250 < sum(struck(1)) < 350
    assert struck(1) == struck(1) != struck(2)

# ruff: noqa: E501 – a warning is one line, however long

from pathlib import Path

import pytest

from proxy.policy.load import read_policy

from .samples import UPSTREAMS

PRICED = "prices: {'*': {input: 1, output: 1}}\n"


def warnings(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "x.yaml"
    path.write_text(UPSTREAMS + text)
    found = read_policy(path, {"MODEL": "ft:secret"}).warnings
    return [str(warning).removeprefix(f"{tmp_path}/") for warning in found]


def test_model_without_a_price_is_told_once_and_at_its_place(tmp_path: Path) -> None:
    text = """\
agents:
  a: {fine_tuned: "ft:a", fallback: base}
  b:
    fine_tuned: "ft:b"
    fallback: {upstream: mistral, model: base}
  c: {fine_tuned: {model: "ft:c"}, fallback: base}
prices: {"ft:b": {input: 1, output: 1}}
"""
    told = "expected a price for this model (add it to prices: without one its cost is unknown)"
    assert warnings(tmp_path, text) == [
        f'x.yaml:4:7: agents.a.fine_tuned: got "ft:a", {told}',
        f'x.yaml:4:27: agents.a.fallback: got "base", {told}',
        f'x.yaml:8:20: agents.c.fine_tuned.model: got "ft:c", {told}',
    ]


def test_shadow_without_a_price_is_told(tmp_path: Path) -> None:
    text = """\
agents:
  a: {fine_tuned: "ft:a", fallback: base, shadow: {percentage: 5}}
  b: {fine_tuned: "ft:b", fallback: base, shadow: {percentage: 5}}
  c: {fine_tuned: "ft:a", fallback: base, shadow: {daily_usd: 5}}
prices: {base: {input: 1, output: 1}, "ft:b": {input: 0, output: 0}}
"""
    unpriced, told = warnings(tmp_path, text)
    assert unpriced.startswith("x.yaml:4:7: agents.a.fine_tuned:")
    assert told == (
        "x.yaml:4:52: agents.a.shadow.percentage: got 5, expected a price for the fine-tuned model"
        " (without one daily_usd cannot hold, and nothing is copied)"
    )


def test_probe_of_an_upstream_without_a_key_is_told(tmp_path: Path) -> None:
    text = "agents: {a: {fine_tuned: m, fallback: n}}\nobservability: {probe: {every: 60s}}\n"
    (told,) = warnings(tmp_path, f"{text}{PRICED}")
    assert told.endswith(
        "expected an api_key for observability.probe (clients' keys are not used, so no model of it is asked)"
    )
    assert "upstreams.mistral: got" in told
    assert warnings(tmp_path, f"{text.replace('every', 'timeout')}{PRICED}") == []


def test_fallback_to_the_fine_tune_itself_is_told(tmp_path: Path) -> None:
    text = f"agents: {{a: {{fine_tuned: m, fallback: {{upstream: mistral, model: m}}}}}}\n{PRICED}"
    assert warnings(tmp_path, text) == [
        'x.yaml:3:59: agents.a.fallback.model: got "m", expected another model than fine_tuned (a fallback to the same model rescues nothing)'
    ]


def test_same_model_elsewhere_is_a_fallback(tmp_path: Path) -> None:
    text = f"agents: {{a: {{fine_tuned: m, fallback: {{upstream: other, model: m}}}}}}\n{PRICED}default_upstream: mistral\n"
    path = tmp_path / "x.yaml"
    path.write_text(f"{UPSTREAMS}  other: {{base_url: 'http://other'}}\n{text}")
    assert read_policy(path, {}).warnings == ()


@pytest.mark.parametrize("key", ["agent", "user"])
def test_sources_behind_a_default_are_told(tmp_path: Path, key: str) -> None:
    text = f"identity: {{{key}: ['header:x-a', 'default:qa', 'header:x-b']}}\n"
    (line,) = warnings(tmp_path, text)
    assert f'identity.{key}[1]: got "default:qa", expected it in the last place' in line
    assert warnings(tmp_path, f"identity: {{{key}: ['header:x-a', 'default:qa']}}\n") == []


def test_value_from_the_environment_is_not_shown(tmp_path: Path) -> None:
    (line, _) = warnings(tmp_path, "agents: {a: {fine_tuned: '${MODEL}', fallback: b}}\n")
    assert "got ***, expected a price" in line


def test_sound_policy_has_no_warning(tmp_path: Path) -> None:
    assert warnings(tmp_path, f"agents: {{a: {{fine_tuned: m, fallback: b}}}}\n{PRICED}") == []


def test_report_without_records_is_told(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, 'report: {at: "06:00"}\n')
    assert "report.at" in found
    assert "store.url" in found
    assert warnings(tmp_path, 'report: {at: 06:00}\nstore: {url: "sqlite:///x.db"}\n') == []

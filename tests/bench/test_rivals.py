"""Rivals are pinned, start from our own configurations, and cost nobody but themselves when they fail."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bench import install
from bench.contenders import CONTENDERS, QUICK, Contender
from bench.plan import HERE, BenchError, Cores, Plan

RIVALS = {contender.name: contender for contender in CONTENDERS if contender.rival}
OURS = Contender("ours", port=1, sse_port=1, ready="")
THEIRS = Contender("theirs", port=2, sse_port=2, ready="", rival=True)


def breaks() -> None:
    raise BenchError("it broke\nits log")


@pytest.fixture
def plan() -> Plan:
    return Plan((OURS, THEIRS), Cores(0, 1), rounds=1, seconds=1, streams=1, chunks=1, interval_ms=20, say=print)


def pins(name: str) -> Iterator[str]:
    folder = HERE / "rivals" / name
    if folder.is_dir():
        yield from (
            f"=={version}" for version in json.loads((folder / "package.json").read_text())["dependencies"].values()
        )
    else:
        yield from (line for line in folder.with_suffix(".txt").read_text().splitlines() if not line.startswith("#"))


@pytest.mark.parametrize("name", RIVALS)
def test_everything_a_rival_brings_is_pinned(name: str) -> None:
    assert all(re.fullmatch(r"[\w.@/-]*==\d[\w.]*", line) for line in pins(name))


def test_no_two_contenders_share_a_port() -> None:
    ports = [port for contender in CONTENDERS for port in {contender.port, contender.sse_port}]
    assert len(ports) == len(set(ports))


@pytest.mark.parametrize(("name", "file"), [("envoy", "envoy.yaml"), ("rolter", "rolter.toml")])
def test_configuration_listens_where_the_load_goes(name: str, file: str) -> None:
    assert str(RIVALS[name].port) in (HERE / "rivals" / file).read_text()


def test_weights_split_nine_to_one() -> None:
    litellm = yaml.safe_load((HERE / "rivals" / "litellm.yaml").read_text())
    assert [each["litellm_params"]["weight"] for each in litellm["model_list"]] == [9, 1]
    portkey = json.loads(RIVALS["portkey"].headers["x-portkey-config"])
    assert [each["weight"] for each in portkey["targets"]] == [0.9, 0.1]


def test_short_look_takes_known_contenders() -> None:
    assert set(QUICK) < {contender.name for contender in CONTENDERS}


def test_failing_rival_loses_its_place_and_the_run_goes_on(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    with plan.at_its_own_risk(THEIRS):
        breaks()
    assert plan.standing == (OURS,)
    assert plan.order(1) == (OURS,)
    assert plan.notes() == ["theirs is missing: it broke"]
    assert "theirs is missing from this run: it broke" in capsys.readouterr().err


def test_failure_of_our_own_ends_the_run(plan: Plan) -> None:
    with pytest.raises(BenchError, match="it broke"), plan.at_its_own_risk(OURS):
        breaks()


def test_slow_contender_gets_as_many_streams_as_it_can_relay() -> None:
    slow = Contender("slow", port=3, sse_port=3, ready="", chunks_per_second=500)
    assert [slow.streams(100, 20), slow.streams(1000, 250), slow.streams(5, 250), OURS.streams(100, 20)] == [
        10,
        125,
        5,
        100,
    ]


def test_rival_installed_as_pinned_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carried_out = []
    monkeypatch.setattr(install, "RIVALS", tmp_path)
    monkeypatch.setattr(install, "_carry_out", lambda argv, _log: carried_out.append(argv))
    install.rival("rolter")
    assert len(carried_out) == 2
    install.rival("rolter")
    assert len(carried_out) == 2
    (tmp_path / "rolter" / ".pinned").write_text("rolter==0.0.1\n")
    install.rival("rolter")
    assert len(carried_out) == 4


def test_rival_whose_installation_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_argv: object, _log: object) -> None:
        raise BenchError("no such version")

    monkeypatch.setattr(install, "RIVALS", tmp_path)
    monkeypatch.setattr(install, "_carry_out", fails)
    for _ in range(2):
        with pytest.raises(BenchError, match="no such version"):
            install.rival("rolter")

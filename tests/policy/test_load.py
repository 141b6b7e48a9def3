import hashlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.policy import load
from proxy.policy.files import fingerprint_of
from proxy.policy.load import default_policy_path, load_policy, parse_policy, read_policy
from proxy.policy.problems import PolicyError, PolicyProblem

from .samples import AGENTS, UPSTREAMS
from .test_config import SECRETS, WHOLE
from .test_config_rollout import ROLLOUT


def test_file_becomes_a_policy_named_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(UPSTREAMS + AGENTS)
    policy = load_policy(path, {})
    assert policy.hash == hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert list(policy.agents) == [b"qa_agent"]


def test_same_policy_with_another_comment_has_another_hash(tmp_path: Path) -> None:
    one, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_text(UPSTREAMS)
    other.write_text(UPSTREAMS + "# later\n")
    assert load_policy(one, {}).hash != load_policy(other, {}).hash


def test_missing_file_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "none.yaml", {})
    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: got an unreadable file (No such file or directory), expected a policy file"
    )


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_folder_or_impossible_name_is_one_problem(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError, match="unreadable file"):
        load_policy(tmp_path / name, {})


def test_ten_megabytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"# comment\n" * 1_000_000)
    with pytest.raises(PolicyError, match="expected at most 1 MiB"):
        load_policy(path, {})


def test_all_files_are_listed_and_all_but_the_mounted_ones_are_in_the_hash(tmp_path: Path) -> None:
    path, base, key = tmp_path / "x.yaml", tmp_path / "base.yaml", tmp_path / "key"
    path.write_text(f"extends: base.yaml\n{AGENTS}")
    base.write_text("upstreams: {m: {base_url: 'http://h', api_key: '${file:key}'}}\n")
    key.write_text("sk-1\n")
    loaded = read_policy(path, {})
    assert loaded.files == (path, base, key)
    assert loaded.fingerprint == fingerprint_of(loaded.files)
    assert read_policy(path, {}) == loaded

    key.write_text("sk-2\n")
    rotated = read_policy(path, {})
    assert rotated.policy.hash == loaded.policy.hash
    assert rotated.fingerprint != loaded.fingerprint
    base.write_text(base.read_text() + "# later\n")
    assert read_policy(path, {}).policy.hash != loaded.policy.hash


def test_hash_tells_which_of_two_files_a_line_stands_in(tmp_path: Path) -> None:
    path, base = tmp_path / "x.yaml", tmp_path / "base.yaml"
    path.write_text("extends: base.yaml\n")
    base.write_text(f"models: {{use_finetuned: true}}\n{UPSTREAMS}")
    one = load_policy(path, {}).hash
    path.write_text("extends: base.yaml\nmodels: {use_finetuned: true}\n")
    base.write_text(UPSTREAMS)
    assert load_policy(path, {}).hash != one


def test_refused_policy_names_the_files_worth_watching(tmp_path: Path) -> None:
    """Whoever mends the extended file, or mounts the missing secret, makes the policy good again."""
    path, base, key = tmp_path / "x.yaml", tmp_path / "base.yaml", tmp_path / "key"
    path.write_text("extends: base.yaml\n")
    with pytest.raises(PolicyError) as missing:
        read_policy(path, {})
    assert missing.value.files == (path, base)
    base.write_text("upstreams: {m: {base_url: 'http://h', api_key: '${file:key}'}}\n")
    with pytest.raises(PolicyError) as unmounted:
        read_policy(path, {})
    assert unmounted.value.files == (path, base, key)


def test_secret_is_in_no_repr_of_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(WHOLE)
    policy = load_policy(path, SECRETS)
    assert policy.upstreams["mistral"].authorization == b"Bearer sk-mistral-secret"
    assert "secret" not in repr(policy)


def test_loading_logs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("upstreams: 7\n")
    with caplog.at_level(logging.DEBUG), pytest.raises(PolicyError):
        load_policy(path, {})
    assert not caplog.records


@pytest.mark.alone
def test_importing_and_loading_is_quick() -> None:
    code = (
        "import time; started = time.process_time(); from pathlib import Path; "
        "from proxy.policy.load import load_policy; load_policy(Path('policies/dev.yaml'), {}); "
        "print(time.process_time() - started)"
    )
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True).stdout for _ in range(3)
    ]
    assert min(map(float, runs)) < 0.6


def test_environment_variable_picks_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir()
    for name in ("dev", "qa"):
        Path(f"policies/{name}.yaml").touch()
    assert default_policy_path({"GENESIS_ENV": "qa"}) == Path("policies/qa.yaml")
    assert default_policy_path({}) == default_policy_path({"GENESIS_ENV": ""}) == Path("policies/dev.yaml")


def test_packaged_policy_serves_where_the_working_directory_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "proxy" / "policies"
    packaged.mkdir(parents=True)
    (packaged / "dev.yaml").touch()
    monkeypatch.setattr(load, "_PACKAGED_FOLDER", packaged)
    monkeypatch.chdir(tmp_path)
    assert default_policy_path({}) == packaged / "dev.yaml"
    Path("policies").mkdir()
    Path("policies/dev.yaml").touch()
    assert default_policy_path({}) == Path("policies/dev.yaml")


def test_unknown_environment_is_refused_with_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir()
    for name in ("dev", "staging", "production"):
        Path(f"policies/{name}.yaml").touch()
    with pytest.raises(PolicyError) as caught:
        default_policy_path({"GENESIS_ENV": "prodction"})
    assert str(caught.value) == (
        'environment: GENESIS_ENV: got "prodction", expected one of: dev, production, staging; did you mean production?'
    )


def test_file_that_others_extend_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policies").mkdir()
    for name in ("dev", "_shared"):
        Path(f"policies/{name}.yaml").touch()
    with pytest.raises(PolicyError) as caught:
        default_policy_path({"GENESIS_ENV": "_shared"})
    assert str(caught.value) == 'environment: GENESIS_ENV: got "_shared", expected one of: dev'


@pytest.mark.parametrize("name", ["../dev", "policies/dev", "dev.yaml", "a\nb", "x" * 100])
def test_environment_is_a_name_and_never_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dev.yaml").touch()
    with pytest.raises(PolicyError, match="GENESIS_ENV") as caught:
        default_policy_path({"GENESIS_ENV": name})
    assert "\n" not in str(caught.value)


def _survives(content: bytes) -> None:
    found: tuple[PolicyProblem, ...] = ()
    try:
        parse_policy(content, "x.yaml", SECRETS)
    except PolicyError as error:
        found = error.problems
    for problem in found:
        assert len(str(problem).splitlines()) == 1
        assert not any(secret in str(problem) for secret in SECRETS.values())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_a_policy_error(content: bytes) -> None:
    _survives(content)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    position=st.integers(0, len(WHOLE + ROLLOUT)),
    length=st.integers(0, 20),
    insert=st.sampled_from(
        ["", " ", "\n", ":", "{", "]", "*a", "&a ", "!x ", "${", "'", "- ", "\t", "9" * 30, "é", "\x85"]
    ),
)
def test_any_damage_to_a_policy_is_a_policy_or_a_policy_error(position: int, length: int, insert: str) -> None:
    text = WHOLE + ROLLOUT
    _survives((text[:position] + insert + text[position + length :]).encode())

"""Editing a policy file: the named values change, all else stays to the letter, or nothing happens."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from proxy.policy.edit import EditError, edit_policy, written
from proxy.policy.load import load_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.problems import PolicyError
from proxy.policy.splice import KeyPath, Value

POLICIES = Path(__file__).parents[2] / "policies"
ENV = Placeholders({})

TEXT = """\
# who answers
environment: 'test'   # not dev
upstreams: {up: {base_url: "http://a"}}

agents:
    # the first
    qa_agent:
        fine_tuned: 'ft:one'  # of May
        fallback: base

    # the second
    legal_agent: {fine_tuned: "ft:two", fallback: base}

# what follows
rollout:
    ramp: [10,   25, 100]
store: {url: null}
fallback:
    on:
        429: true
        5xx: true
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(TEXT)
    return file


def changed(path: Path, key: tuple[str, ...], value: Value) -> list[str]:
    """The lines that an edit takes away and adds."""
    edited = edit_policy(path, {key: value}, ENV)
    lines = [line for file in edited.files for line in file.unified().splitlines()[2:]]
    return [line for line in lines if line[0] in "+-"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            ("agents", "qa_agent", "fine_tuned"),
            "ft:new",
            ["-        fine_tuned: 'ft:one'  # of May", "+        fine_tuned: 'ft:new'  # of May"],
        ),
        (
            ("agents", "legal_agent", "fine_tuned"),
            "ft:new",
            [
                '-    legal_agent: {fine_tuned: "ft:two", fallback: base}',
                '+    legal_agent: {fine_tuned: "ft:new", fallback: base}',
            ],
        ),
        (("agents", "qa_agent", "rollout_percentage"), 25.0, ["+        rollout_percentage: 25"]),
        (("ab_testing", "rollout_percentage"), 18.5, ["+ab_testing:", "+    rollout_percentage: 18.5"]),
        (
            ("agents", "new_agent"),
            {"fine_tuned": "ft:three", "fallback": "base"},
            ["+    new_agent:", '+        fine_tuned: "ft:three"', "+        fallback: base"],
        ),
    ],
)
def test_only_the_named_value_changes(path: Path, key: tuple[str, ...], value: Value, expected: list[str]) -> None:
    assert changed(path, key, value) == expected


def test_new_last_key_stands_above_the_comment_that_follows(path: Path) -> None:
    edit_policy(path, {("agents", "new_agent"): {"fine_tuned": "m", "fallback": "base"}}, ENV)
    text = path.read_text()
    assert text.index("new_agent") < text.index("\n\n# what follows\nrollout:")


@pytest.mark.parametrize("name", ["_shared", "dev", "staging", "production", "demo"])
def test_shipped_files_change_in_one_place(tmp_path: Path, name: str) -> None:
    for file in POLICIES.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    assert len(changed(tmp_path / f"{name}.yaml", ("models", "fallback_enabled"), False)) <= 3


def test_same_value_changes_nothing(path: Path) -> None:
    before = path.stat().st_ino
    assert edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:one"}, ENV).files == ()
    assert path.stat().st_ino == before


def test_windows_line_ends_stay(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV)
    content = path.read_bytes()
    assert b"ft:new" in content
    assert content.count(b"\n") == content.count(b"\r\n")


def test_reference_in_a_value_is_not_expanded(path: Path) -> None:
    edited = edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:${HOME}"}, ENV)
    assert edited.new.policy.agents[b"qa_agent"].finetuned.model == "ft:${HOME}"


# --- the extended file --------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    for file in POLICIES.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.parametrize(("where_written", "name"), [(True, "_shared.yaml"), (False, "production.yaml")])
def test_value_of_the_extended_file_is_changed_where_the_caller_wants_it(
    shipped: Path, where_written: bool, name: str
) -> None:
    change: dict[KeyPath, Value] = {("agents", "qa_agent", "fine_tuned"): "ft:new"}
    edited = edit_policy(shipped / "production.yaml", change, ENV, where_written=where_written)
    assert [file.path.name for file in edited.files] == [name]
    assert load_policy(shipped / "production.yaml", ENV).agents[b"qa_agent"].finetuned.model == "ft:new"
    elsewhere = load_policy(shipped / "staging.yaml", ENV).agents[b"qa_agent"].finetuned.model
    assert (elsewhere == "ft:new") == where_written


def test_written_is_the_value_of_the_nearer_file(shipped: Path) -> None:
    assert written(shipped / "demo.yaml", ("agents", "analyst_agent", "fallback")) == {
        "upstream": "openai",
        "model": "gpt-4o",
    }
    assert written(shipped / "demo.yaml", ("agents", "qa_agent", "fallback")) == "open-mistral-7b"
    assert written(shipped / "demo.yaml", ("agents", "nobody")) is None


# --- nothing is written -------------------------------------------------------------------------------


def test_dry_run_writes_nothing(path: Path) -> None:
    before = path.read_bytes()
    edited = edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV, dry_run=True)
    assert edited.new.policy.agents[b"qa_agent"].finetuned.model == "ft:new"
    assert path.read_bytes() == before


def test_unsound_result_is_refused(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(PolicyError, match=r"agents\.qa_agent\.rollout_percentage: got 101"):
        edit_policy(path, {("agents", "qa_agent", "rollout_percentage"): 101}, ENV)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_alias_that_would_change_another_value_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("""\
environment: test
upstreams: {up: {base_url: "http://a"}}
agents:
  one: &it {fine_tuned: "ft:a", fallback: b}
  two: *it
""")
    with pytest.raises(PolicyError, match="alias"):
        edit_policy(path, {("agents", "one", "fine_tuned"): "ft:new"}, ENV)


def test_read_only_file_is_an_error(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(EditError, match="read-only"):
        edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV)


def test_file_that_somebody_else_changes_meanwhile_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = os.fsync

    def disturbed(descriptor: int) -> None:
        synced(descriptor)
        path.write_text(TEXT + "# meanwhile\n")

    monkeypatch.setattr(os, "fsync", disturbed)
    with pytest.raises(EditError, match="somebody else"):
        edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV)
    assert path.read_text().endswith("# meanwhile\n")
    assert list(path.parent.iterdir()) == [path]


# --- how it is written --------------------------------------------------------------------------------


def test_mode_stays_and_a_link_stays_a_link(path: Path) -> None:
    path.chmod(0o640)
    link = path.parent / "link.yaml"
    link.symlink_to(path.name)
    edit_policy(link, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV)
    assert link.is_symlink()
    assert "ft:new" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_reader_with_the_old_file_open_keeps_it(path: Path) -> None:
    before = path.read_bytes()
    with path.open("rb") as reader:
        edit_policy(path, {("agents", "qa_agent", "fine_tuned"): "ft:new"}, ENV)
        assert reader.read() == before

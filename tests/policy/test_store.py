"""ACCEPTANCE 26 and 27 on real files: what becomes active, what does not, and what is said of it."""

import asyncio
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.policy import store as store_module
from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import PolicyError
from proxy.policy.store import PolicyStore
from tests.support.lane import eventually

SECRET = "sk-canary-4711"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, ten times faster than for people."""
    monkeypatch.setattr(store_module, "POLL", 0.1)
    monkeypatch.setattr(store_module, "SETTLE", 0.02)


def policy(percentage: float, more: str = "") -> str:
    return f"""\
upstreams: {{up: {{base_url: "http://127.0.0.1:1", api_key: "${{KEY}}"}}}}
agents: {{qa_agent: {{fine_tuned: ft, fallback: base}}}}
ab_testing: {{rollout_percentage: {percentage}}}
{more}
"""


def percentage(store: PolicyStore) -> float:
    return store.active.policy.agents[b"qa_agent"].percentage


async def becomes(store: PolicyStore, expected: float) -> None:
    await eventually(lambda: percentage(store) == expected, within=2)


async def looks(count: int = 2) -> None:
    """Wait while the store looks `count` times and more."""
    await asyncio.sleep(0.15 * count + 0.1)


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[PolicyStore]:
    store = PolicyStore(path, {"KEY": SECRET})
    watching = asyncio.create_task(store.watch())
    try:
        yield store
        assert not watching.done()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


class ConfigMap:
    """A folder as Kubernetes mounts it: names are links into `..data`, a link that each update swaps."""

    def __init__(self, folder: Path, text: str) -> None:
        self._folder = folder
        self._version = 0
        self.path = folder / "policy.yaml"
        self.update(text)
        self.path.symlink_to("..data/policy.yaml")

    def update(self, text: str) -> None:
        before = self._folder / f"..{self._version}"
        self._version += 1
        fresh = self._folder / f"..{self._version}"
        fresh.mkdir()
        (fresh / "policy.yaml").write_text(text)
        swap = self._folder / "..data_tmp"
        swap.symlink_to(fresh.name)
        swap.rename(self._folder / "..data")
        if before.exists():
            shutil.rmtree(before)


# --- ACCEPTANCE 26: every way a file changes ----------------------------------------------------------


async def test_each_swap_of_a_configmap_becomes_active(tmp_path: Path) -> None:
    mounted = ConfigMap(tmp_path, policy(1))
    async with followed(mounted.path) as store:
        for step in (2, 3, 4):
            mounted.update(policy(step))
            await becomes(store, step)
        assert (store.reloads, store.failures) == (3, 0)


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    fresh = path.with_name(".policy.yaml.tmp")
    fresh.write_text(text)
    fresh.rename(path)


def recreate(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def replace_directory(path: Path, text: str) -> None:
    path.parent.rename(path.parent.with_name("old"))
    path.parent.mkdir()
    path.write_text(text)
    shutil.rmtree(path.parent.with_name("old"))


def keep_times_and_size(path: Path, text: str) -> None:
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


CHANGES = [write_in_place, rename_over, recreate, replace_directory, keep_times_and_size]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
async def test_every_way_of_changing_a_file_is_noticed_each_time(
    tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    path = folder / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        for step in (2, 3):
            change(path, policy(step))
            await becomes(store, step)
        assert store.rejection is None


async def test_deleted_file_keeps_the_last_good_policy_until_it_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        path.unlink()
        await eventually(lambda: store.rejection is not None)
        assert percentage(store) == 1
        assert store.rejection is not None
        assert "No such file" in store.rejection.problems[0].value
        path.write_text(policy(2))
        await becomes(store, 2)
        assert store.rejection is None


async def test_file_that_is_being_written_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SETTLE", 0.1)
    monkeypatch.setattr(store_module, "SETTLE_TRIES", 1)  # a writer that takes longer than all tries
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        for step in (2, 3, 4):
            text = policy(step)
            with path.open("w") as file:
                for start in range(0, len(text), 20):
                    file.write(text[start : start + 20])
                    file.flush()
                    await asyncio.sleep(0.03)
            await becomes(store, step)
        assert store.failures == 0
        assert store.reloads == 3


async def test_truncated_file_is_told_once_and_the_whole_one_becomes_active(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        path.write_text(policy(2)[:60])
        await eventually(lambda: store.failures == 1)
        await looks(3)
        assert (percentage(store), store.failures) == (1, 1)
        path.write_text(policy(2))
        await becomes(store, 2)
        assert (store.rejection, store.failures) == (None, 1)


async def test_pipe_in_the_files_place_is_refused_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        path.unlink()
        os.mkfifo(path)
        await eventually(lambda: store.rejection is not None)
        path.unlink()
        path.write_text(policy(2))
        await becomes(store, 2)


async def test_mounted_secret_and_extended_file_are_followed_too(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    (tmp_path / "key").write_text("first\n")
    (tmp_path / "base.yaml").write_text(policy(1).replace("${KEY}", "${file:key}"))
    path.write_text("extends: base.yaml\n")
    async with followed(path) as store:
        assert store.active.policy.upstreams["up"].authorization == b"Bearer first"
        name = store.active.policy.hash
        (tmp_path / "key").write_text("second\n")
        await eventually(lambda: store.active.policy.upstreams["up"].authorization == b"Bearer second")
        assert store.active.policy.hash == name, "a name that strangers see says nothing about secrets"
        (tmp_path / "base.yaml").write_text(policy(2))
        await becomes(store, 2)
        assert store.active.policy.hash != name


async def test_file_that_was_missing_at_the_failure_heals_it_when_it_appears(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        path.write_text("extends: base.yaml\n")
        await eventually(lambda: store.rejection is not None)
        (tmp_path / "base.yaml").write_text(policy(2))
        await becomes(store, 2)


async def test_same_content_written_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        before = store.active
        rename_over(path, policy(1))
        await looks()
        assert store.active is before
        assert not await store.reload()
        path.write_text("broken: [")
        await eventually(lambda: store.rejection is not None)
        path.write_text(policy(1))
        await eventually(lambda: store.rejection is None)
        assert store.active is before
        assert store.reloads == 0


# --- ACCEPTANCE 27: what cannot be used -----------------------------------------------------------------

BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
BAD = {
    "YAML error": (policy(2) + "x: [", 1),
    "unknown key and wrong unit": (policy(2, "limits: {drain: 25}\nlimit: {}"), 2),
    "python object": (policy(2, "x: !!python/object/apply:os.system [id]"), 1),
    "alias bomb": (BOMB, 1),
    "10 MB": (policy(2) + "# " + "x" * 10_000_000, 1),
    "empty": ("", 1),
    "unset variable": (policy(2).replace("${KEY}", "${UNSET_1}"), 1),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_file_keeps_the_policy_and_tells_every_problem(tmp_path: Path, name: str) -> None:
    text, count = BAD[name]
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    async with followed(path) as store:
        before = store.active
        path.write_text(text)
        await eventually(lambda: store.rejection is not None)
        assert store.active is before
        assert store.rejection is not None
        assert len(store.rejection.problems) >= count
        with pytest.raises(PolicyError) as caught:
            await store.reload()
        assert caught.value.problems == store.rejection.problems
        assert store.active is before


async def test_change_of_listen_needs_a_restart_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    store = PolicyStore(path, {"KEY": SECRET})
    path.write_text(policy(2, 'listen: {data: "127.0.0.1:9000"}'))
    with pytest.raises(PolicyError) as caught:
        await store.reload()
    (problem,) = caught.value.problems
    assert problem.key == "listen"
    assert "127.0.0.1:9000" in problem.value
    assert "restart" in problem.expected
    assert percentage(store) == 1


async def test_environment_is_that_of_the_start(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    env = {"KEY": "first"}
    store = PolicyStore(path, env)
    env["KEY"] = "second"
    path.write_text(policy(2))
    assert await store.reload()
    assert store.active.policy.upstreams["up"].authorization == b"Bearer first"


# --- what is told ---------------------------------------------------------------------------------------


async def test_swap_is_told_once_with_both_policies(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    store = PolicyStore(path, {"KEY": SECRET})
    told: list[tuple[LoadedPolicy, LoadedPolicy]] = []
    store.on_swap = lambda old, new: told.append((old, new))
    before = store.active
    path.write_text(policy(2))
    assert await store.reload()
    assert told == [(before, store.active)]


async def test_reading_ahead_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1))
    store = PolicyStore(path, {"KEY": SECRET})
    path.write_text(policy(2))
    assert (await store.read()).policy.agents[b"qa_agent"].percentage == 2
    path.write_text("broken: [")
    with pytest.raises(PolicyError):
        await store.read()
    assert (percentage(store), store.reloads, store.failures, store.rejection) == (1, 0, 0, None)


async def test_of_many_agents_that_change_the_log_counts_those_it_does_not_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "splitlane.policy")
    agents = "".join(f", agent_{number}: {{fine_tuned: ft, fallback: base}}" for number in range(99))
    path = tmp_path / "policy.yaml"
    path.write_text(policy(1).replace("fallback: base}}", "fallback: base}" + agents + "}"))
    store = PolicyStore(path, {"KEY": SECRET})
    path.write_text(path.read_text().replace("rollout_percentage: 1", "rollout_percentage: 2"))
    assert await store.reload()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.count("of users move") == store_module.LOGGED_AGENTS
    assert line.endswith(f"; and {100 - store_module.LOGGED_AGENTS} more agents")


async def test_log_has_a_line_for_each_change_and_each_bad_content_and_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "splitlane.policy")
    path = tmp_path / "policy.yaml"
    priced = "prices: {ft: {input: 1, output: 1}, base: {input: 1, output: 1}}"
    path.write_text(policy(1, priced))
    async with followed(path) as store:
        first = store.active.policy.hash
        path.write_text(policy(2, priced))
        await becomes(store, 2)
        second = store.active.policy.hash
        path.write_text(policy(2, f"api_key: {SECRET}\nalerting: {{slack_webhook: {SECRET}}}"))
        await eventually(lambda: store.failures == 1)
        await looks(3)
        path.write_text(policy(2, "\n".join(f"unknown_{number}: 1" for number in range(50))))
        await eventually(lambda: store.failures == 2)
    changed, bad, worse = [record.getMessage() for record in caplog.records]
    moved = "ab_testing.rollout_percentage; qa_agent (rollout_percentage, 1.00% of users move)"
    assert changed == f"policy {first} → {second}: {moved}"
    assert bad.startswith(f"policy {second} kept, {path} cannot be used: ")
    assert "alerting.slack_webhook" in bad
    assert "and 40 more" in worse
    assert "canary" not in caplog.text

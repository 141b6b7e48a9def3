"""The policy that is active, and how another one takes its place while requests are served.

- The content decides, not names or times.  A Kubernetes ConfigMap swaps the symlink `..data` above its
  files, a rename puts another file in a name's place, a bind mount keeps odd times: a read sees what the
  next start would see.  All files of the policy are read again when something happens in their folders
  (`folders.py`), and every `POLL` seconds, because a watch is blind on network file systems and goes deaf
  without a word where a folder is replaced.
- A file is judged when two readings, `SETTLE` seconds apart, agree: a half-written one is not.
- A file that cannot be used changes nothing: the last good policy stays, and the failure is told.
- Reading and parsing happen on threads of their own, the swap in one step on the event loop.
- The environment is that of the start; `${NAME}` does not change while the process lives.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from proxy.policy.diff import PolicyDiff, diff_policies
from proxy.policy.files import fingerprint_of
from proxy.policy.folders import FolderWatch, folders_of
from proxy.policy.load import LoadedPolicy, read_policy
from proxy.policy.mounts import find_single_file_mounts
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.snapshot import ListenPolicy
from proxy.tasks import blocking

log = logging.getLogger("splitlane.policy")

# Seconds between two looks at files whose folders tell nothing, each on a thread: half a millisecond of processor.
POLL = 1.0
# Seconds between the two readings that must agree, and how often that is tried before the next look.
SETTLE = 0.05
SETTLE_TRIES = 10
# Problems in one line of the log; `/policy` has all of them.
LOGGED_PROBLEMS = 10
# Agents that changed in one line of the log: five thousand took a fifth of a second to tell, and a line of 270 kB.
LOGGED_AGENTS = 20


class Rejection(NamedTuple):
    """A file that could not be used."""

    problems: tuple[PolicyProblem, ...]
    at: float  # Unix time


class Judgement(NamedTuple):
    """What the files said when they were read."""

    outcome: LoadedPolicy | PolicyError
    fingerprint: bytes  # of the files that were read, or looked for
    settled: bool  # False: they were changing all the while


class PolicyStore:
    """The active policy of one process; its methods belong to the event loop."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        """Read the policy file; raises `PolicyError`."""
        self.path = path
        self._env = dict(env)
        self.active = read_policy(path, self._env)
        self.mounts = find_single_file_mounts(self.active.files)
        self.loaded_at = time.time()  # Unix time
        self.rejection: Rejection | None = None  # of the files as they are now
        self.reloads = 0
        self.failures = 0
        self.on_swap: Callable[[LoadedPolicy, LoadedPolicy], None] = lambda old, new: None
        self.on_rejected: Callable[[PolicyError], None] = lambda error: None
        self._files = self.active.files  # what is looked at
        self._judged = self.active.fingerprint  # what they were when last judged
        self._reading = asyncio.Lock()

    @property
    def warnings(self) -> tuple[PolicyProblem, ...]:
        """What is legal, and probably not meant, in the active policy and in how its files are mounted."""
        return (*self.mounts, *self.active.warnings)

    async def watch(self) -> None:
        """Follow the files until cancelled."""
        folders = FolderWatch()
        found: frozenset[Path] | None = None
        try:
            while True:
                try:
                    if found is None:
                        found = await blocking(lambda: folders_of(self._files), "policy folders")
                    folders.follow(found)
                    await folders.stirred(within=POLL)
                    async with self._reading:
                        judgement, found = await blocking(self._look, "policy look")
                        if judgement is not None and judgement.settled:
                            self._take(judgement)
                except Exception:
                    log.exception("the policy could not be looked at; the active one stays")
                    await asyncio.sleep(POLL)
        finally:
            folders.stop()

    async def reload(self) -> bool:
        """Read the files now; whether another policy is active.  Raises `PolicyError`; the last good one stays."""
        async with self._reading:
            judgement = await blocking(self._judge, "policy read")
            before = self.active
            self._take(judgement)
            if isinstance(judgement.outcome, PolicyError):
                raise judgement.outcome
            return self.active is not before

    async def read(self) -> LoadedPolicy:
        """What a reload would make active now; raises `PolicyError`.  Changes nothing."""
        async with self._reading:
            outcome = (await blocking(self._judge, "policy read")).outcome
        if isinstance(outcome, PolicyError):
            raise outcome
        return outcome

    def _look(self) -> tuple[Judgement | None, frozenset[Path]]:
        """What changed files say, None where they are what they were when last judged; and their folders.  Blocks."""
        if fingerprint_of(self._files) == self._judged:
            return None, folders_of(self._files)
        judgement = self._judge()
        return judgement, folders_of(judgement.outcome.files)

    def _judge(self) -> Judgement:
        """Read and check the files until they hold still.  Blocks; changes nothing."""
        files = self._files
        for _ in range(SETTLE_TRIES):
            before = fingerprint_of(files)
            time.sleep(SETTLE)
            outcome = self._read()
            settled = outcome.files == files and fingerprint_of(files) == before
            if settled:
                break
            files = outcome.files
        return Judgement(outcome, before, settled)

    def _read(self) -> LoadedPolicy | PolicyError:
        try:
            loaded = read_policy(self.path, self._env)
        except PolicyError as error:
            return error
        except Exception as error:
            # Whatever a file does to us, the last good policy serves on.  Only the kind of error: its text
            # may quote the file.
            bug = f"a file that the proxy fails on ({type(error).__name__})"
            return PolicyError((PolicyProblem(str(self.path), 0, 0, "", bug, "a policy file"),), (self.path,))
        new, old = loaded.policy.listen, self.active.policy.listen
        return loaded if new == old else PolicyError((_restart_needed(self.path, new, old),), loaded.files)

    def _take(self, judgement: Judgement) -> None:
        outcome = judgement.outcome
        self._judged = judgement.fingerprint
        self._files = outcome.files
        if isinstance(outcome, PolicyError):
            self.rejection = Rejection(outcome.problems, time.time())
            self.failures += 1
            told = _told(outcome.problems)
            log.error("policy %s kept, %s cannot be used: %s", self.active.policy.hash, self.path, told)
            self.on_rejected(outcome)
            return
        if self.rejection is not None:
            self.rejection = None
            log.info("%s can be used again", self.path)
        if outcome.fingerprint == self.active.fingerprint:
            return
        old, self.active = self.active, outcome
        self.mounts = find_single_file_mounts(outcome.files)
        self.loaded_at = time.time()
        self.reloads += 1
        self.on_swap(old, outcome)
        log.info("policy %s", _summary(diff_policies(old.policy, outcome.policy)))
        for warning in set(outcome.warnings) - set(old.warnings):
            log.warning("%s", warning)


def _summary(diff: PolicyDiff) -> str:
    """A change as one line of a log: which settings, not their values, and how many users move.

    It is written between two requests, so of many agents the first are told and the others counted.
    """
    changes = [change.key for change in diff.settings]
    agents = [agent for agent in diff.agents.values() if agent.change in ("added", "removed", "changed")]
    for agent in agents[:LOGGED_AGENTS]:
        if agent.change == "changed":
            keys = [change.key for change in agent.settings] + [f"{price.variant} price" for price in agent.prices]
            moved = sum(flow.share for flow in agent.flows if flow.moves)
            changes.append(f"{agent.name} ({', '.join([*keys, f'{moved:.2%} of users move'])})")
        else:
            changes.append(f"{agent.name} {agent.change}")
    if (more := len(agents) - LOGGED_AGENTS) > 0:
        changes.append(f"and {more} more agents")
    return f"{diff.old} → {diff.new}: {'; '.join(changes) or 'nothing that requests are served by'}"


def _restart_needed(path: Path, new: ListenPolicy, old: ListenPolicy) -> PolicyProblem:
    def shown(listen: ListenPolicy) -> str:
        names = f", asked as {', '.join(listen.admin_hosts)}" if listen.admin_hosts else ""
        return f"data {listen.data}, admin {listen.admin}{names}"

    expected = f"{shown(old)}, as at start: the addresses only change with a restart"
    return PolicyProblem(str(path), 0, 0, "listen", shown(new), expected)


def _told(problems: tuple[PolicyProblem, ...]) -> str:
    """Problems as one line of a log."""
    more = len(problems) - LOGGED_PROBLEMS
    text = "; ".join(map(str, problems[:LOGGED_PROBLEMS]))
    return f"{text}; and {more} more, see /policy" if more > 0 else text

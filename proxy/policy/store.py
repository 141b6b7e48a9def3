"""The active policy and the state of its file.

Laws: there is always one active policy, and it is whole; a file that cannot be used changes nothing but
`problems`; a content is judged once, however often it is looked at.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from proxy.policy.files import fingerprint_of
from proxy.policy.load import LoadedPolicy, read_policy
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.snapshot import Policy


class Reload(NamedTuple):
    """What one look at the policy's files led to."""

    changed: bool  # another policy became active
    problems: tuple[PolicyProblem, ...]  # why the files cannot be used; empty: they are what is active


class PolicyStore:
    """Owns the active policy.  `read` and `fingerprint` read files; everything else only remembers."""

    def __init__(self, path: Path, env: Mapping[str, str]) -> None:
        """Load the policy at `path`, with `${…}` from `env`, now and ever after.  Raises `PolicyError`."""
        self.path = path
        self._env = dict(env)
        self.active: LoadedPolicy = read_policy(path, self._env)
        self.active_since = time.time()  # Unix seconds, as all times here
        self.files = self.active.files  # what was read or looked for last
        self._judged = self.active.fingerprint
        self.problems: tuple[PolicyProblem, ...] = ()
        self.failed_at = 0.0
        self.failures = 0
        self.reloads = 0

    def fingerprint(self) -> bytes:
        """Of the files as they are now."""
        return fingerprint_of(self.files)

    def is_judged(self, fingerprint: bytes) -> bool:
        """Whether files with this fingerprint are those that were judged last."""
        return fingerprint == self._judged

    def read(self) -> LoadedPolicy:
        """The policy in the files now, were it to become active.  Raises `PolicyError`."""
        loaded = read_policy(self.path, self._env)
        problems = tuple(_fixed(str(self.path), self.active.policy, loaded.policy))
        if problems:
            raise PolicyError(problems, loaded.files, loaded.fingerprint)
        return loaded

    def accept(self, loaded: LoadedPolicy) -> Reload:
        """Make a policy that was read the active one."""
        self.files, self._judged = loaded.files, loaded.fingerprint
        self.problems = ()
        changed = loaded.fingerprint != self.active.fingerprint
        if changed:
            self.active = loaded
            self.active_since = time.time()
            self.reloads += 1
        return Reload(changed, ())

    def refuse(self, error: PolicyError) -> Reload:
        """Keep the active policy, and remember why."""
        self.files, self._judged = error.files, error.fingerprint
        self.problems = error.problems
        self.failed_at = time.time()
        self.failures += 1
        return Reload(False, error.problems)


def _fixed(source: str, active: Policy, new: Policy) -> list[PolicyProblem]:
    """What only a restart can change."""
    return [
        PolicyProblem(source, 0, 0, f"listen.{key}", str(new_address), f"{address}, or a restart: only that moves it")
        for key in ("data", "admin")
        if (address := getattr(active.listen, key)) != (new_address := getattr(new.listen, key))
    ]

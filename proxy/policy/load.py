"""A policy file's bytes to the policy, or every error at once.

Nothing here keeps state or logs; who calls decides what a bad file means (at start: exit; on a
reload: keep the last good policy).
"""

import difflib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from proxy.policy.compile import compile_policy
from proxy.policy.config import PolicyConfig, validate_policy
from proxy.policy.diagnose import diagnose
from proxy.policy.document import Node
from proxy.policy.expand import expand_document, expanded_paths
from proxy.policy.extend import read_merged
from proxy.policy.files import PolicyFiles, UnreadableError
from proxy.policy.problems import Path as KeyPath
from proxy.policy.problems import PolicyError, PolicyProblem, show_value
from proxy.policy.snapshot import Policy
from proxy.policy.warn import find_warnings

ENVIRONMENT_VARIABLE = "GENESIS_ENV"
DEFAULT_ENVIRONMENT = "dev"  # whoever sets nothing gets the baseline only

_FOLDER = Path("policies")
_PACKAGED_FOLDER = Path(__file__).resolve().parent.parent / "policies"
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # `_shared` is for other files to extend


class LoadedPolicy(NamedTuple):
    """A policy that requests can be served by, and what else there is to know of its file."""

    policy: Policy
    config: PolicyConfig
    warnings: tuple[PolicyProblem, ...]  # what is legal and probably not meant
    files: tuple[Path, ...]  # all that was read for it, the policy file first
    fingerprint: bytes  # of all their bytes, mounted secrets included: for comparing, never for showing
    expanded: frozenset[KeyPath]  # whose values came through `${…}`: not for showing either


def read_policy(path: Path, env: Mapping[str, str], drafts: Mapping[Path, bytes] | None = None) -> LoadedPolicy:
    """The policy in the file at `path`, with `${…}` taken from `env`; raises `PolicyError`.

    `drafts` are contents to read in place of what stands in those files: what the policy would be.
    """
    files = PolicyFiles(drafts)
    try:
        content = files.read(path)
        config, root = _parse(content, str(path), env, files)
    except UnreadableError as error:
        problem = PolicyProblem(str(path), 0, 0, "", f"an unreadable file ({error})", "a policy file")
        raise PolicyError((problem,), files.paths) from None
    except PolicyError as error:
        raise PolicyError(error.problems, files.paths) from None
    bases = () if config.extends is None else (files.read(path.parent / config.extends),)
    policy = compile_policy(config, policy_hash(content, *bases))
    warnings = find_warnings(config, policy, root)
    return LoadedPolicy(policy, config, warnings, files.paths, files.fingerprint, expanded_paths(root))


def load_policy(path: Path, env: Mapping[str, str]) -> Policy:
    """`read_policy` for who only wants the policy itself."""
    return read_policy(path, env).policy


def policy_hash(content: bytes, *extended: bytes) -> str:
    """The public name of a policy's content: 12 hex digits.

    A file that stands alone is named by the SHA-256 of its bytes, as `sha256sum` tells it.
    """
    if not extended:
        return hashlib.sha256(content).hexdigest()[:12]
    digests = (hashlib.sha256(part).digest() for part in (content, *extended))
    return hashlib.sha256(b"".join(digests)).hexdigest()[:12]


def parse_policy(text: bytes, source: str, env: Mapping[str, str]) -> PolicyConfig:
    """The typed policy of a file's bytes; `source` is the file's path, as errors show it.

    Raises `PolicyError` with everything that is wrong, file by file and in each file's order.
    """
    return _parse(text, source, env, PolicyFiles())[0]


def _parse(text: bytes, source: str, env: Mapping[str, str], files: PolicyFiles) -> tuple[PolicyConfig, Node]:
    root, problems = read_merged(text, source, files)
    problems += expand_document(root, env, files)
    try:
        config = validate_policy(root.plain())
    except ValidationError as error:
        # A value that could not be expanded is wrong once, not twice.
        known = {problem.key for problem in problems}
        problems += [problem for problem in diagnose(error, root) if problem.key not in known]
    if problems:
        # `from None`: the cause would carry the file's values into tracebacks.
        raise PolicyError(tuple(sorted(problems, key=lambda problem: problem[:3]))) from None
    return config, root


def default_policy_path(env: Mapping[str, str]) -> Path:
    """`policies/$GENESIS_ENV.yaml` in the working directory, else the copy inside the package.

    Raises `PolicyError` where neither exists.
    """
    name = env.get(ENVIRONMENT_VARIABLE) or DEFAULT_ENVIRONMENT
    if _ENVIRONMENT.fullmatch(name):  # a name, never a path
        for folder in (_FOLDER, _PACKAGED_FOLDER):
            if (path := folder / f"{name}.yaml").is_file():
                return path
    stems = {path.stem for folder in (_FOLDER, _PACKAGED_FOLDER) for path in folder.glob("*.yaml")}
    known = sorted(filter(_ENVIRONMENT.fullmatch, stems))
    close = difflib.get_close_matches(name[:64], known, n=1)
    expected = f"one of: {', '.join(known)}" if known else "a file policies/NAME.yaml, but there is none"
    hint = f"; did you mean {close[0]}?" if close else ""
    problem = PolicyProblem("environment", 0, 0, ENVIRONMENT_VARIABLE, show_value(name, ()), f"{expected}{hint}")
    raise PolicyError((problem,))

"""A policy file's bytes: a policy, or every error at once.

Laws: no error but `PolicyError`; each problem is one line and tells no secret; what is accepted compiles, is shown
without its secrets, and does not differ from itself.
"""

from pathlib import Path

from proxy.policy.diff import diff_policies
from proxy.policy.load import read_policy
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.redact import redact

TOKENS = (
    b"agents:\n", b"  a:\n", b"    fine_tuned: ft:x\n", b"    fallback: b\n", b"upstreams:\n",
    b"default_upstream: up\n", b"base_url: ", b"api_key: ${KEY}\n", b"${KEY}", b"${NONE:-x}", b"${", b"}",
    b"environment: dev\n", b"extends: a.yaml\n", b"ab_testing: {enabled: true, rollout_percentage: 25}\n",
    b"timeouts: {connect: 2s}\n", b"limits: {max_body: 1MiB}\n", b"identity: {user: [header:x-user]}\n",
    b"budgets: {daily_usd: 10, on_exceeded: reject}\n", b"fallback: {on: [429]}\n", b"brake: {}\n", b"rollout: {}\n",
    b"shadow: {percentage: 5}\n", b"prices: {b: {input: 1, output: 2}}\n", b"&a ", b"*a", b"<<: *a",
    b"!!python/object:os.system ", b"!x ", b"--- ", b"...\n", b"? ", b"- ", b": ", b"# ", b"|\n", b">\n", b"'", b'"',
    b"{", b"[", b"]", b", ", b"\t", b"\n", b"  ", b"~", b"null", b"true", b"1e400", b"9" * 30, b".inf", b"0x1F",
    b"1:30", b"-1", b"100%", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\xc2\x85", b"\xe2\x80\xa8",
)  # fmt: skip

SECRET = "zq9secret"
_ENV = {"KEY": SECRET, "URL": f"https://user:{SECRET}@db/x"}
_PATH = Path("/nowhere/fuzzed.yaml")  # what it extends is not there either


def check(data: bytes) -> None:
    """`data` is a policy file."""
    try:
        loaded = read_policy(_PATH, _ENV, {_PATH: data})
    except PolicyError as error:
        _check_problems(error.problems)
        return
    assert SECRET not in repr(redact(loaded.config, loaded.expanded))
    assert all(len(str(warning).splitlines()) == 1 for warning in loaded.warnings)
    assert SECRET not in repr(loaded.warnings)
    same = diff_policies(loaded.policy, loaded.policy)
    assert not same.settings
    assert not same.regresses


def _check_problems(problems: tuple[PolicyProblem, ...]) -> None:
    assert problems
    for problem in problems:
        text = str(problem)
        assert len(text.splitlines()) == 1
        assert SECRET not in text

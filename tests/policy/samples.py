"""Policy texts and the ways to read them that the tests of this folder share."""

from collections.abc import Mapping
from textwrap import dedent

import pytest

from proxy.policy.compile import compile_policy
from proxy.policy.config import PolicyConfig
from proxy.policy.load import parse_policy
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.snapshot import Policy

SOURCE = "policies/x.yaml"

UPSTREAMS = """\
upstreams:
  mistral: {base_url: "https://api.mistral.ai", dialect: mistral}
"""
AGENTS = """\
agents:
  qa_agent: {fine_tuned: "ft:qa", fallback: base}
"""


def parse(text: str, env: Mapping[str, str] | None = None) -> PolicyConfig:
    return parse_policy(dedent(text).encode(), SOURCE, env or {})


def compiled(text: str, env: Mapping[str, str] | None = None) -> Policy:
    return compile_policy(parse(text, env), "0123456789ab")


def problems(text: str | bytes, env: Mapping[str, str] | None = None) -> tuple[PolicyProblem, ...]:
    content = dedent(text).encode() if isinstance(text, str) else text
    with pytest.raises(PolicyError) as caught:
        parse_policy(content, SOURCE, env or {})
    # Whoever logs the exception with its traceback must not log the file's values either.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.problems


def problem(text: str | bytes, env: Mapping[str, str] | None = None) -> PolicyProblem:
    found = problems(text, env)
    assert len(found) == 1, "\n".join(map(str, found))
    return found[0]

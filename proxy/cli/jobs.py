"""The fine-tuned models of finished fine-tuning jobs, and whose they are.

Asked over plain HTTP, `GET /v1/fine_tuning/jobs`: the mistralai SDK 2.0 has this endpoint, 2.10 and 3
have it no longer.  A job belongs to the agent that `--map` names, else to the one its suffix names.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from proxy.cli.models import RegistryError
from proxy.cli.upstream_api import UpstreamApi
from proxy.policy.snapshot import Policy, UpstreamPolicy
from proxy.words import Dialect

PAGE_SIZE = 100
MAX_PAGES = 100


class Job(NamedTuple):
    """A job that succeeded."""

    id: str
    model: str  # the fine-tuned one
    suffix: str


def models_from_jobs(policy: Policy, mapped: Mapping[str, str]) -> dict[str, str]:
    """Agent → model; raises `RegistryError` where that is not certain."""
    jobs = asyncio.run(_finished(_upstream(policy)))
    if strange := sorted(mapped.keys() - {job.id for job in jobs}):
        raise RegistryError(f"splitlane models: no finished job {', '.join(strange)}")
    by_agent: dict[str, list[Job]] = {}
    for job in jobs:
        agent = mapped.get(job.id, job.suffix)
        # What people have named outweighs what a suffix suggests.
        if job.id in mapped or (agent.encode() in policy.agents and agent not in mapped.values()):
            by_agent.setdefault(agent, []).append(job)
    wrong = [
        f"splitlane models: {agent} has {len(found)} finished jobs; name one with --map JOB={agent}: "
        + ", ".join(f"{job.id} ({job.model})" for job in found)
        for agent, found in by_agent.items()
        if len(found) > 1
    ]
    if not by_agent:
        listed = ", ".join(f"{job.id} ({job.model})" for job in jobs) or "none"
        wrong.append(
            f"splitlane models: no job's suffix is an agent's name; use --map JOB=AGENT; finished jobs: {listed}"
        )
    if wrong:
        raise RegistryError("\n".join(wrong))
    return {agent: found[0].model for agent, found in by_agent.items()}


def _upstream(policy: Policy) -> UpstreamPolicy:
    """The default upstream if it speaks Mistral's dialect, else the first that does."""
    candidates = (policy.default_upstream, *policy.upstreams.values())
    found = next((upstream for upstream in candidates if upstream.dialect is Dialect.MISTRAL), None)
    if found is None:
        raise RegistryError("splitlane models: the policy has no upstream with `dialect: mistral` to ask for jobs")
    return found


async def _finished(upstream: UpstreamPolicy) -> list[Job]:
    """All jobs that succeeded, newest first."""
    found: list[dict[str, Any]] = []
    async with UpstreamApi(upstream) as api:
        for page in range(MAX_PAGES):
            answer = await api.get(f"fine_tuning/jobs?status=SUCCESS&page={page}&page_size={PAGE_SIZE}")
            data = answer.body.get("data") if isinstance(answer.body, dict) else None
            if answer.status != 200 or not isinstance(data, list):
                why = answer.problem or f"status {answer.status}"
                raise RegistryError(f"splitlane models: {upstream.name} did not list its fine-tuning jobs ({why})")
            found += (job for job in data if isinstance(job, dict) and job.get("status") == "SUCCESS")
            if len(data) < PAGE_SIZE:
                break
    found.sort(key=lambda job: job.get("created_at") or 0, reverse=True)
    return [
        Job(job["id"], job["fine_tuned_model"], job.get("suffix") or "")
        for job in found
        if isinstance(job.get("id"), str) and isinstance(job.get("fine_tuned_model"), str)
    ]

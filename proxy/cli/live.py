"""Whether a policy's upstreams take its keys and have its models: asked of each of them, at once.

- A listed model exists.  One that is not listed is asked for by itself: lists leave out some.
- Its refusal (404, or 400 as Mistral's dialect has it) says `missing` only where lists are answered.
- No key in the policy: clients bring their own, so a refusal says nothing.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from proxy.cli.progress import Progress
from proxy.cli.upstream_api import ApiAnswer, UpstreamApi
from proxy.policy.snapshot import Policy, UpstreamPolicy

REFUSED = (401, 403)
NOT_THERE = (400, 404, 410, 422)


class Verdict(NamedTuple):
    """On an upstream as a whole (`model` is empty), or on a model there."""

    upstream: str
    model: str
    status: str  # ok | missing | refused | unreachable | silent | unknown
    detail: str  # empty for ok

    @property
    def fails(self) -> bool:
        """Whether the policy cannot work as written; `unknown` may."""
        return self.status in {"missing", "refused", "unreachable", "silent"}

    def __str__(self) -> str:
        what = f"{self.upstream}: {self.model or 'the upstream'}: {self.status}"
        return f"{what} ({self.detail})" if self.detail else what


def models_by_upstream(policy: Policy) -> dict[str, tuple[str, ...]]:
    """Each upstream's name, and the models of all agents there, each once."""
    wanted: dict[str, dict[str, None]] = {name: {} for name in policy.upstreams}
    for agent in policy.agents.values():
        for target in (agent.finetuned, agent.baseline):
            wanted[target.upstream.name][target.model] = None
    return {name: tuple(models) for name, models in wanted.items()}


async def ask_upstreams(policy: Policy) -> list[Verdict]:
    """A verdict for each upstream and each model, in the policy's order."""
    wanted = models_by_upstream(policy)
    with Progress("asking upstreams", len(wanted)) as progress:
        asked = (_ask(policy.upstreams[name], models, progress) for name, models in wanted.items())
        return [verdict for verdicts in await asyncio.gather(*asked) for verdict in verdicts]


async def _ask(upstream: UpstreamPolicy, models: tuple[str, ...], progress: Progress) -> list[Verdict]:
    try:
        async with UpstreamApi(upstream) as api:
            listed = await api.get("models")
            whole = _on_upstream(upstream, listed)
            if listed.status not in (200, *NOT_THERE):
                # The same is true of whatever is there.
                return [whole, *(Verdict(upstream.name, model, "unknown", "not asked") for model in models)]
            known = _names(listed.body)
            others = [model for model in models if model not in known]
            answers = await asyncio.gather(*(api.get(f"models/{quote(model, safe='')}") for model in others))
    except OSError as error:  # of `ca_file`
        return [Verdict(upstream.name, "", "unreachable", f"ca_file: {error.strerror or error}")]
    finally:
        progress.step()
    found = dict(zip(others, answers, strict=True))
    return [whole, *(_on_model(upstream, model, found.get(model), listed) for model in models)]


def _on_upstream(upstream: UpstreamPolicy, answer: ApiAnswer) -> Verdict:
    if answer.status == 0:
        return Verdict(upstream.name, "", "unreachable", answer.problem)
    if answer.status in REFUSED:
        if upstream.authorization is None:
            return Verdict(upstream.name, "", "unknown", "the policy has no key for it: clients bring their own")
        return Verdict(upstream.name, "", "refused", f"the key is refused (status {answer.status})")
    if answer.status in NOT_THERE:
        return Verdict(upstream.name, "", "unknown", f"lists no models (status {answer.status})")
    if answer.status != 200:
        return Verdict(upstream.name, "", "unreachable", f"status {answer.status}")
    return Verdict(upstream.name, "", "ok", "")


def _on_model(upstream: UpstreamPolicy, model: str, answer: ApiAnswer | None, listed: ApiAnswer) -> Verdict:
    if answer is None or answer.status == 200:
        return Verdict(upstream.name, model, "ok", "")
    if answer.status in NOT_THERE and listed.status == 200:
        return Verdict(upstream.name, model, "missing", f"not listed, and asked for by its id: status {answer.status}")
    if answer.status in REFUSED and upstream.authorization is not None:
        return Verdict(upstream.name, model, "refused", f"the key may not see it (status {answer.status})")
    why = answer.problem or f"status {answer.status}"
    return Verdict(upstream.name, model, "unknown", f"not listed; asked for by its id: {why}")


def _names(body: Any) -> set[str]:
    """The ids and aliases in a list of models; both dialects, and anything else an upstream may say."""
    cards = body.get("data") if isinstance(body, dict) else body
    names: set[str] = set()
    for card in cards if isinstance(cards, list) else []:
        if isinstance(card, dict):
            aliases = card.get("aliases")
            names |= set(_texts([card.get("id"), *(aliases if isinstance(aliases, list) else [])]))
    return names


def _texts(values: Iterable[object]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))

"""What is legal in a policy and probably not meant.  Pure; each warning says what to do."""

from collections.abc import Iterator

from proxy.policy.config import PolicyConfig
from proxy.policy.config_identity import parse_source
from proxy.policy.document import Node
from proxy.policy.problems import Path, PolicyProblem, show_path, show_value
from proxy.policy.snapshot import Policy


def find_warnings(config: PolicyConfig, policy: Policy, root: Node) -> tuple[PolicyProblem, ...]:
    """The warnings on a valid policy, in the order of its agents; `root` is what it was read from."""
    return (
        *_unpriced(policy, root),
        *_shadows_without_a_price(config, policy, root),
        *_unprobed(policy, root),
        *_same_model_twice(policy, root),
        *_unreachable_sources(config, root),
        *_nothing_to_report(policy, root),
    )


def _unpriced(policy: Policy, root: Node) -> Iterator[PolicyProblem]:
    """Models without a price, each once: five agents share a baseline."""
    seen: set[str] = set()
    for agent in policy.agents.values():
        for key, target in (("fine_tuned", agent.finetuned), ("fallback", agent.baseline)):
            if target.price is None and target.model not in seen:
                seen.add(target.model)
                expected = "a price for this model (add it to prices: without one its cost is unknown)"
                yield _at(root, ("agents", agent.name, key, "model"), expected)


def _shadows_without_a_price(config: PolicyConfig, policy: Policy, root: Node) -> Iterator[PolicyProblem]:
    for agent in policy.agents.values():
        if config.agents[agent.name].shadow.percentage and agent.finetuned.price is None:
            expected = "a price for the fine-tuned model (without one daily_usd cannot hold, and nothing is copied)"
            yield _at(root, ("agents", agent.name, "shadow", "percentage"), expected)


def _unprobed(policy: Policy, root: Node) -> Iterator[PolicyProblem]:
    """Upstreams that probes have no key for; models without a price are told anyway."""
    if policy.probe is None:
        return
    asked = {target.upstream for agent in policy.agents.values() for target in (agent.finetuned, agent.baseline)}
    for name, upstream in policy.upstreams.items():
        if upstream in asked and upstream.authorization is None:
            expected = "an api_key for observability.probe (clients' keys are not used, so no model of it is asked)"
            yield _at(root, ("upstreams", name), expected)


def _same_model_twice(policy: Policy, root: Node) -> Iterator[PolicyProblem]:
    for agent in policy.agents.values():
        if (agent.finetuned.model, agent.finetuned.upstream) == (agent.baseline.model, agent.baseline.upstream):
            expected = "another model than fine_tuned (a fallback to the same model rescues nothing)"
            yield _at(root, ("agents", agent.name, "fallback", "model"), expected)


def _unreachable_sources(config: PolicyConfig, root: Node) -> Iterator[PolicyProblem]:
    for key, sources in (("agent", config.identity.agent), ("user", config.identity.user)):
        for index, source in enumerate(sources[:-1]):
            if parse_source(source).kind == "default":
                expected = "it in the last place (a default always has a value: what follows is never asked)"
                yield _at(root, ("identity", key, index), expected)
                break


def _nothing_to_report(policy: Policy, root: Node) -> Iterator[PolicyProblem]:
    if policy.report.at is not None and policy.store.url is None:
        yield _at(root, ("report", "at"), "a store.url (without records there is nothing to report, and no report)")


def _at(root: Node, path: Path, expected: str) -> PolicyProblem:
    node, found = root.find(path)  # a target in its short form ends one key earlier
    return PolicyProblem(node.source, node.line, node.column, show_path(found), show_value(node.value, found), expected)

"""An agent's diff in words and in JSON values.  Pure."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from proxy.policy.agent_diff import AgentDiff, PriceChange, SettingChange
from proxy.policy.moves import Flow, finetuned_share
from proxy.policy.snapshot import AgentPolicy, Price, Target
from proxy.words import Variant

_ARMS = {Variant.FINETUNED: "fine-tuned", Variant.BASELINE: "baseline"}
_WITHOUT_USER = {
    "finetuned": "fine-tuned",
    "baseline": "baseline",
    "random": "drawn for each request",
    "rejected": "rejected",
    "passthrough": "passed through",
}


def setting_line(change: SettingChange) -> str:
    """`key: old → new`."""
    return f"{change.key}: {change.old} → {change.new}"


def agent_lines(agent: AgentDiff) -> Iterator[str]:
    """An agent's changes, its name first, the rest indented."""
    yield f"{agent.name}: {agent.change}"
    yield from (f"  {line}" for line in _lines(agent))


def _lines(agent: AgentDiff) -> Iterator[str]:
    if agent.old is None and agent.new is not None:
        yield f"until now its requests passed through unchanged; now {_arms(agent.new)}"
    elif agent.new is None and agent.old is not None:
        yield f"until now {_arms(agent.old)}; now its requests pass through unchanged"
    else:
        yield from map(setting_line, agent.settings)
        yield from _draw_lines(agent)
        yield from map(_price_line, agent.prices)
    if agent.change != "unchanged" and agent.without_user[0] != agent.without_user[1]:
        yield "requests without a user: {} → {}".format(*(_WITHOUT_USER[fate] for fate in agent.without_user))


def _draw_lines(agent: AgentDiff) -> Iterator[str]:
    old, new = agent.old, agent.new
    if agent.change == "unchanged" or old is None or new is None:
        return
    if agent.reshuffled:
        what = "salt" if old.salt != new.salt else "compat"
        yield f"the {what} changes: users are reshuffled, each drawn anew; the shares below are expected ones"
        if _is_derived(old) and _is_derived(new):
            yield f'the salt follows the fine-tuned model; to keep everybody in place, write `salt: "{old.salt}"`'
    if not any(flow.moves for flow in agent.flows):
        yield "no user moves"
    yield from (_flow_line(flow) for flow in agent.flows if flow.moves or flow.changes_model)


def _flow_line(flow: Flow) -> str:
    arms = f"{_ARMS[flow.before]} → {_ARMS[flow.after]}" if flow.moves else f"stay {_ARMS[flow.after]}, another model"
    text = f"{_percent(flow.share)} of users: {arms} ({_place(flow.old, flow.new)} → {_place(flow.new, flow.old)})"
    if flow.old.price == flow.new.price:
        return text
    return f"{text}; {_prices(flow.old.price, flow.new.price)}{', more expensive' if flow.costs_more else ''}"


def _price_line(change: PriceChange) -> str:
    flag = ", more expensive" if change.costs_more else ""
    return f"price of {_ARMS[change.variant]}: {_prices(change.old, change.new)}{flag}"


def _arms(agent: AgentPolicy) -> str:
    finetuned, baseline = agent.finetuned, agent.baseline
    return (
        f"{_percent(finetuned_share(agent))} of its users are on {finetuned.model} ({price_text(finetuned.price)})"
        f" and the others on {baseline.model} ({price_text(baseline.price)})"
    )


def _is_derived(agent: AgentPolicy) -> bool:
    return agent.salt == f"{agent.name}/{agent.finetuned.model}"


def _place(target: Target, other: Target) -> str:
    """The model, with its upstream where that differs too."""
    same = target.upstream.name == other.upstream.name
    return target.model if same else f"{target.model} at {target.upstream.name}"


def price_text(price: Price | None) -> str:
    """`$0.25 in, $1.25 out`, per million tokens, or `no price`."""
    return "no price" if price is None else f"${price.input:g} in, ${price.output:g} out"


def _prices(old: Price | None, new: Price | None) -> str:
    if old is not None and new is not None and (old.input, old.output) == (new.input, new.output):
        return f"${old.cached_input:g} → ${new.cached_input:g} per million cached input tokens"
    return f"{price_text(old)} → {price_text(new)} per million tokens"


def _percent(share: float) -> str:
    """A share in per cent, without trailing zeros; never 0 or 100 where it is not quite."""
    text = f"{share * 100:.2f}".rstrip("0").rstrip(".")
    if text == "0" and share > 0:
        return "less than 0.01 %"
    if text == "100" and share < 1:
        return "more than 99.99 %"
    return f"{text} %"


def agent_json(agent: AgentDiff) -> dict[str, Any]:
    """The same in plain JSON values."""
    shares = {f"{flow.before.value}_to_{flow.after.value}": flow.share for flow in agent.flows}
    return {
        "change": agent.change,
        "regresses": agent.regresses,
        "settings": [change._asdict() for change in agent.settings],
        "reshuffled": agent.reshuffled,  # true: the shares are expected ones
        "users": shares,
        "leaving_finetuned": agent.leaving,
        "models": [
            {
                "from": flow.before.value,
                "to": flow.after.value,
                "share": flow.share,
                "old": target_json(flow.old),
                "new": target_json(flow.new),
                "costs_more": flow.costs_more,
            }
            for flow in agent.flows
            if flow.changes_model
        ],
        "prices": [
            {
                "variant": change.variant.value,
                "old": _price_json(change.old),
                "new": _price_json(change.new),
                "costs_more": change.costs_more,
            }
            for change in agent.prices
        ],
        "without_user": {"old": agent.without_user[0], "new": agent.without_user[1]},
    }


def target_json(target: Target) -> dict[str, Any]:
    """A model, where it is served, and its price in US dollars per million tokens or null."""
    return {"model": target.model, "upstream": target.upstream.name, "price": _price_json(target.price)}


def _price_json(price: Price | None) -> dict[str, float] | None:
    return None if price is None else asdict(price)

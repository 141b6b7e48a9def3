"""The rollout over HTTP: brakes, shown and taken back, and what has failed, released."""

import json
from collections.abc import Callable

from aiohttp import web

from proxy.admin.answers import UNKNOWN_AGENT, error_answer, json_answer, utc_time
from proxy.admin.orders import OrderRoutes
from proxy.policy.store import PolicyStore
from proxy.wire.errors import bad_request
from proxy.words import Brake

_NO_AGENT = bad_request("ask for /rollout/clear?agent=NAME")


class RolloutRoutes:
    """Handlers over one process's brakes."""

    def __init__(self, store: PolicyStore, clear: Callable[[str, str], Brake | None], orders: OrderRoutes) -> None:
        """`clear` takes an agent's brake back, and gets who says so; the brake, where one was in force."""
        self._store = store
        self._clear = clear
        self._orders = orders

    async def clear(self, request: web.Request) -> web.Response:
        """POST /rollout/clear?agent=: the fine-tune of an agent may serve again."""
        if (refusal := self._orders.refusal(request)) is not None:
            return refusal
        name = request.query.get("agent")
        if not name:
            return error_answer(_NO_AGENT)
        if name.encode("utf-8", "surrogateescape") not in self._store.active.policy.agents:
            return error_answer(UNKNOWN_AGENT)
        brake = self._clear(name, f"admin listener, {request.remote}")
        told: dict[str, object] = {"agent": name, "cleared": brake is not None, "brake": show_brake(brake)}
        if self._store.active.policy.store.url is not None:
            told["released"], told["problem"] = await self._orders.release(request, name)
        return json_answer(told)


def show_brake(brake: Brake | None) -> dict[str, object] | None:
    """A brake as JSON; None: none is in force."""
    if brake is None:
        return None
    try:
        evidence = json.loads(brake.evidence)
    except ValueError:  # somebody else wrote it
        evidence = brake.evidence
    return {"id": brake.id, "tripped_at": utc_time(brake.time), "evidence": evidence}

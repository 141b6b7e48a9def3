"""The policy over HTTP: what is active, a reload, one user's variant.

What changes something needs the admin token.  Nothing here is logged, and no secret is in an answer.
"""

import time
from collections.abc import Iterable

from aiohttp import web

from proxy.admin.answers import UNKNOWN_AGENT, error_answer, json_answer, utc_time
from proxy.admin.guard import Guard
from proxy.admin.rollout import show_brake
from proxy.budget.budgets import Budgets
from proxy.exchange.brake import Brakes
from proxy.policy.diff import diff_policies
from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import HIDDEN, PolicyError, PolicyProblem
from proxy.policy.redact import redact
from proxy.policy.snapshot import Policy
from proxy.policy.store import PolicyStore
from proxy.split.assign import explain
from proxy.wire.errors import bad_request

_BAD_POLICY = bad_request("the policy file cannot be used, the active policy stays", "bad_policy")
_BAD_DRY_RUN = bad_request("dry_run is 1 or 0")
_NO_PARAMETERS = bad_request("ask for /assign?agent=NAME&user=ID, both not blank")


class PolicyRoutes:
    """Handlers over one process's policy store, its budgets and its brakes."""

    def __init__(self, store: PolicyStore, budgets: Budgets, brakes: Brakes, guard: Guard) -> None:
        self._store = store
        self._budgets = budgets
        self._brakes = brakes
        self._guard = guard

    async def show(self, _: web.Request) -> web.Response:
        """GET /policy: the effective policy, redacted, how it came to be active; money left, brakes in force."""
        store = self._store
        active, rejection = store.active, store.rejection
        last_error = rejection and {"at": utc_time(rejection.at), "problems": _problems(rejection.problems)}
        return json_answer(
            {
                "hash": active.policy.hash,
                "loaded_at": utc_time(store.loaded_at),
                "files": list(map(str, active.files)),
                "reloads": store.reloads,
                "reload_failures": store.failures,
                "last_error": last_error,
                "warnings": _problems(store.warnings),
                "budgets": self._show_budgets(active.policy),
                "brakes": {
                    "kept_in": self._budgets.kept_in,
                    "tripped": {name: show_brake(brake) for name, brake in self._brakes.tripped.items()},
                },
                "policy": redact(active.config, active.expanded),
            }
        )

    def _show_budgets(self, policy: Policy) -> dict[str, object]:
        """Every limit with its window; `kept_in` says who else knows what is spent."""
        return {
            "kept_in": self._budgets.kept_in,
            "limits": [
                {
                    "scope": status.scope,
                    "window": status.window,
                    "limit_usd": status.limit,
                    "spent_usd": round(status.spent, 9),
                    "reserved_usd": status.reserved,
                    "resets_at": utc_time(status.resets_at),
                    "on_exceeded": status.on_exceeded,
                }
                for status in self._budgets.status(policy, time.time())
            ],
        }

    async def reload(self, request: web.Request) -> web.Response:
        """POST /policy/reload: read the files now; with `dry_run=1`, tell what that would change."""
        if (refusal := self._guard.refusal(request)) is not None:
            return refusal
        dry_run = request.query.get("dry_run", "0")
        if dry_run not in ("0", "1"):
            return error_answer(_BAD_DRY_RUN)
        try:
            if dry_run == "1":
                return self._tell(await self._store.read())
            changed = await self._store.reload()
        except PolicyError as error:
            return error_answer(_BAD_POLICY, _problems(error.problems))
        store = self._store
        return json_answer(
            {
                "changed": changed,
                "hash": store.active.policy.hash,
                "errors": [],
                "warnings": _problems(store.warnings),
            }
        )

    def _tell(self, new: LoadedPolicy) -> web.Response:
        active = self._store.active
        return json_answer(
            {
                "changed": new.fingerprint != active.fingerprint,
                "hash": new.policy.hash,
                "errors": [],
                "warnings": _problems(new.warnings),
                "diff": diff_policies(active.policy, new.policy).as_json(),
            }
        )

    async def assign(self, request: web.Request) -> web.Response:
        """GET /assign?agent=&user=: the variant of a user, and why."""
        name, user = request.query.get("agent"), request.query.get("user")
        if not name or not user:
            return error_answer(_NO_PARAMETERS)
        active = self._store.active
        agent = active.policy.agents.get(name.encode())
        if agent is None:
            return error_answer(UNKNOWN_AGENT)
        explained = explain(agent, user.encode())
        if explained is None:
            return error_answer(_NO_PARAMETERS)
        return json_answer(
            {
                "agent": agent.name,
                "hash": explained.hash,
                "bucket": explained.bucket,
                "variant": explained.variant,
                "percentage": agent.percentage,
                "enters_at": explained.enters_at,
                "salt": HIDDEN if ("agents", agent.name, "salt") in active.expanded else agent.salt,
                "policy": active.policy.hash,
            }
        )


def _problems(problems: Iterable[PolicyProblem]) -> list[dict[str, object]]:
    return [problem._asdict() for problem in problems]

"""The policy over HTTP: what is active, a reload, one user's variant.

What changes something needs the admin token.  Nothing here is logged, and no secret is in an answer.
"""

import hmac
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from proxy.budget.budgets import Budgets
from proxy.policy.diff import diff_policies
from proxy.policy.load import LoadedPolicy
from proxy.policy.problems import HIDDEN, PolicyError, PolicyProblem
from proxy.policy.redact import redact
from proxy.policy.snapshot import Policy
from proxy.policy.store import PolicyStore
from proxy.split.assign import explain
from proxy.wire.errors import ErrorAnswer, bad_request

TOKEN_VARIABLE = "SPLITLANE_ADMIN_TOKEN"  # noqa: S105 its name

_NO_TOKEN = ErrorAnswer(
    403, "permission_error", "no_admin_token",
    f"this changes the proxy, and no token guards it: start it with {TOKEN_VARIABLE} set",
)  # fmt: skip
_WRONG_TOKEN = ErrorAnswer(
    401, "authentication_error", "wrong_admin_token", f"send Authorization: Bearer with the value of {TOKEN_VARIABLE}"
)
_BAD_POLICY = bad_request("the policy file cannot be used, the active policy stays", "bad_policy")
_BAD_DRY_RUN = bad_request("dry_run is 1 or 0")
_NO_PARAMETERS = bad_request("ask for /assign?agent=NAME&user=ID, both not blank")
_UNKNOWN_AGENT = bad_request("the active policy has no such agent; /policy lists them", "unknown_agent", 404)


class PolicyRoutes:
    """Handlers over one process's policy store and its budgets."""

    def __init__(self, store: PolicyStore, budgets: Budgets, token: str) -> None:
        self._store = store
        self._budgets = budgets
        self._token = token.strip().encode("utf-8", "surrogateescape")  # as the header is taken

    async def show(self, _: web.Request) -> web.Response:
        """GET /policy: the effective policy, redacted, how it came to be active, and what is left of its budgets."""
        store = self._store
        active, rejection = store.active, store.rejection
        last_error = rejection and {"at": _time(rejection.at), "problems": _problems(rejection.problems)}
        return _json(
            {
                "hash": active.policy.hash,
                "loaded_at": _time(store.loaded_at),
                "files": list(map(str, active.files)),
                "reloads": store.reloads,
                "reload_failures": store.failures,
                "last_error": last_error,
                "warnings": _problems(store.warnings),
                "budgets": self._show_budgets(active.policy),
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
                    "resets_at": _time(status.resets_at),
                    "on_exceeded": status.on_exceeded,
                }
                for status in self._budgets.status(policy, time.time())
            ],
        }

    async def reload(self, request: web.Request) -> web.Response:
        """POST /policy/reload: read the files now; with `dry_run=1`, tell what that would change."""
        if not self._token:
            return _error(_NO_TOKEN)
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        sound = hmac.compare_digest(sent.strip().encode("utf-8", "surrogateescape"), self._token)
        if not sound or scheme.lower() != "bearer":
            return _error(_WRONG_TOKEN)
        dry_run = request.query.get("dry_run", "0")
        if dry_run not in ("0", "1"):
            return _error(_BAD_DRY_RUN)
        try:
            if dry_run == "1":
                return self._tell(await self._store.read())
            changed = await self._store.reload()
        except PolicyError as error:
            return _error(_BAD_POLICY, _problems(error.problems))
        store = self._store
        return _json(
            {
                "changed": changed,
                "hash": store.active.policy.hash,
                "errors": [],
                "warnings": _problems(store.warnings),
            }
        )

    def _tell(self, new: LoadedPolicy) -> web.Response:
        active = self._store.active
        return _json(
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
            return _error(_NO_PARAMETERS)
        active = self._store.active
        agent = active.policy.agents.get(name.encode())
        if agent is None:
            return _error(_UNKNOWN_AGENT)
        explained = explain(agent, user.encode())
        if explained is None:
            return _error(_NO_PARAMETERS)
        return _json(
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


def _time(seconds: float) -> str:
    """Unix time as RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _problems(problems: Iterable[PolicyProblem]) -> list[dict[str, object]]:
    return [problem._asdict() for problem in problems]


def _json(answer: object, status: int = 200) -> web.Response:
    # Not orjson: a file's name may hold what is no Unicode, and stays printable here.
    return web.Response(status=status, text=json.dumps(answer, indent=2) + "\n", content_type="application/json")


def _error(answer: ErrorAnswer, problems: list[dict[str, object]] | None = None) -> web.Response:
    body = json.loads(answer.body())
    if problems is not None:
        body["error"]["problems"] = problems
    return _json(body, answer.status)

"""The active policy on the admin listener: what it is, what a change would do, whom it assigns where."""

from datetime import UTC, datetime

from aiohttp import web

from proxy.admin.respond import answer, listed, may_change, refusal
from proxy.exchange.exchange import Exchange
from proxy.policy.diff import diff_policies
from proxy.policy.problems import PolicyError, PolicyProblem
from proxy.policy.redact import redacted
from proxy.policy.reload import Reloader, single_file_mounts
from proxy.split.assign import explain
from proxy.tasks import blocking
from proxy.wire.errors import bad_request

_WHO = bad_request("name an agent and a user: /assign?agent=NAME&user=ID", "missing_parameter")


def add_policy_routes(router: web.UrlDispatcher, exchange: Exchange, reloader: Reloader | None, token: str) -> None:
    """`/assign` of the active policy; `/policy` and its reload, where the policy comes from files."""

    async def assign(request: web.Request) -> web.Response:
        name, user = request.query.get("agent"), request.query.get("user")
        if not name or not user:
            return refusal(_WHO)
        policy = exchange.policy
        agent = policy.agents.get(name.encode())
        if agent is None:
            known = ", ".join(each.name for each in policy.agents.values())
            return refusal(bad_request(f"the policy has no such agent; it has {known}", "unknown_agent", 404))
        explained = explain(agent, user.encode())
        if explained is None:
            return refusal(_WHO)
        about = {"agent": agent.name, "policy": policy.hash, "percentage": agent.percentage, "salt": agent.salt}
        return answer(about | explained._asdict())

    router.add_get("/assign", assign)
    if reloader is None:
        return
    store = reloader.store

    async def show(_: web.Request) -> web.Response:
        active = store.active
        return answer(
            {
                "hash": active.policy.hash,
                "active_since": _moment(store.active_since),
                "files": [str(file) for file in active.files],
                "reloads": store.reloads,
                "failures": store.failures,
                "failed_at": _moment(store.failed_at),
                "problems": listed(store.problems),
                "warnings": listed((*active.warnings, *single_file_mounts(active.files))),
                "policy": redacted(active.config),
            }
        )

    async def reload(request: web.Request) -> web.Response:
        if (refused := may_change(request, token)) is not None:
            return refused
        if request.query.get("dry_run", "0") not in ("0", "false"):
            try:
                new = await blocking(store.read, "policy dry run")
            except PolicyError as error:
                return _invalid(error.problems)
            changes = diff_policies(store.active.policy, new.policy).as_json()
            return answer({"hash": new.policy.hash, "warnings": listed(new.warnings), "changes": changes})
        outcome = await reloader.reload()
        if outcome.problems:
            return _invalid(outcome.problems)
        active = store.active
        return answer({"changed": outcome.changed, "hash": active.policy.hash, "warnings": listed(active.warnings)})

    router.add_get("/policy", show)
    router.add_post("/policy/reload", reload)


def _invalid(problems: tuple[PolicyProblem, ...]) -> web.Response:
    return refusal(bad_request(_REFUSED, "invalid_policy"), problems=listed(problems))


_REFUSED = "the policy's files cannot be used; the active policy stays"


def _moment(seconds: float) -> str | None:
    """Unix seconds as ISO 8601; None for never."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None

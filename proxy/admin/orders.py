"""A person's orders to a ramp over HTTP: `splitlane rollout`, run as a process of its own.

What may be done, what stands against it and what is written is decided there, as on the command line.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from aiohttp import web

from proxy.admin import child
from proxy.admin.answers import UNKNOWN_AGENT, error_answer, json_answer
from proxy.admin.guard import Guard
from proxy.policy.problems import PolicyError
from proxy.policy.store import PolicyStore
from proxy.tasks import spawn
from proxy.wire.errors import ErrorAnswer, bad_request

log = logging.getLogger("splitlane.rollout")

# Behind requests, and before what runs when nobody else wants to: a person waits.
PROGRAM = "import os, sys; sys.path[:] = {path!r}; os.nice(5); from proxy.cli import main; sys.exit(main({argv!r}))"
# Seconds that an order may take; the lease of another one is waited for within it.
WITHIN = 30.0
MOST_BYTES = 1 << 20  # of what it answers
MOST_BODY = 4096  # bytes of a request's body
MOST_REASON = 300  # characters
MOST_SAID = 10  # lines that say why it was not done
_DONE, _REFUSED, _BUSY = 0, 1, 4  # exit codes of `splitlane rollout`

_NO_AGENT = bad_request("name the agent: ?agent=NAME")
_NO_STORE = ErrorAnswer(
    503, "server_error", "no_store", "the policy keeps no records: set store.url, and ramps can be moved on evidence"
)
_BAD_REASON = bad_request(
    f'send {{"reason": "…"}}: one line that begins with a word, up to {MOST_REASON} characters; a pause needs one'
)


class OrderRoutes:
    """Handlers over one process's policy file; one order at a time."""

    def __init__(self, store: PolicyStore, guard: Guard, changed: Callable[[], None]) -> None:
        """`changed`: is told after an order was obeyed."""
        self._store = store
        self._guard = guard
        self._changed = changed
        self._turn = asyncio.Lock()

    async def advance(self, request: web.Request) -> web.Response:
        """POST /rollout/advance?agent=: to the next step, where nothing stands against it."""
        return await self._answer(request, "advance")

    async def pause(self, request: web.Request) -> web.Response:
        """POST /rollout/pause?agent=, {"reason"}: leave it where it is."""
        return await self._answer(request, "pause")

    async def resume(self, request: web.Request) -> web.Response:
        """POST /rollout/resume?agent=: end a pause."""
        return await self._answer(request, "resume")

    async def rollback(self, request: web.Request) -> web.Response:
        """POST /rollout/rollback?agent=, {"reason"}: to 0 %, and there until it is cleared."""
        return await self._answer(request, "rollback")

    async def release(self, request: web.Request, agent: str) -> tuple[bool, str]:
        """Release what has failed in the store, after its brake was taken back; whether, and what kept it from that."""
        if self._store.active.policy.store.url is None:
            return False, ""
        answer = await self._obey(request, "clear", agent, "")
        body = json.loads(answer.body) if isinstance(answer.body, bytes) else {}
        if answer.status != 200:
            return False, str(body["error"]["message"])
        return bool(body["agents"]), ""

    async def _answer(self, request: web.Request, order: str) -> web.Response:
        if (refusal := self.refusal(request)) is not None:
            return refusal
        name = request.query.get("agent")
        if not name:
            return error_answer(_NO_AGENT)
        policy = self._store.active.policy
        if name.encode("utf-8", "surrogateescape") not in policy.agents:
            return error_answer(UNKNOWN_AGENT)
        reason = await _reason_in(request)
        if reason is None or (order == "pause" and not reason):
            return error_answer(_BAD_REASON)
        if policy.store.url is None and order != "rollback":  # which needs none
            return error_answer(_NO_STORE)
        return await self._obey(request, order, name, reason)

    async def settled(self) -> None:
        """Wait until the order that is being obeyed has been; one that hangs is not waited for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WITHIN), self._turn:
                pass

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to who may not give orders; None: go on."""
        return self._guard.refusal(request)

    async def _obey(self, request: web.Request, order: str, agent: str, reason: str) -> web.Response:
        """Run it to its end, also where whoever asked has left: what is half done is done."""
        actor = f"admin listener, {request.remote}"
        return await asyncio.shield(spawn(self._run(order, agent, reason, actor), f"rollout {order}"))

    async def _run(self, order: str, agent: str, reason: str, actor: str) -> web.Response:
        # An option's value stands in one word with it: an agent may be called --force.
        argv = ["rollout", order, f"--policy={self._store.path}", f"--agent={agent}", f"--by={actor}", "--json"]
        if order in ("pause", "rollback") and reason:
            argv.append(reason)
        try:
            async with asyncio.timeout(WITHIN), self._turn:
                ended = await child.run(PROGRAM, argv, MOST_BYTES)
        except TimeoutError:
            return _not_done(f"{order} of {agent} was not done within {WITHIN:g} seconds, and may be done in part")
        except OSError as error:
            return _not_done(f"its process does not start: {error}")
        lines = [line for line in ended.complaint.decode(errors="replace").splitlines() if line.strip()]
        said = [line.removeprefix("splitlane rollout: ") for line in lines]
        if ended.code == _REFUSED:
            return _refused(ended.output, said)
        if ended.code != _DONE:
            return _not_done(
                "; ".join(said[-MOST_SAID:]) or f"its process ended with {ended.code}", busy=ended.code == _BUSY
            )
        log.warning("rollout of %s: %s by %s", agent, order, actor)
        with contextlib.suppress(PolicyError):  # the store has logged it
            await self._store.reload()
        self._changed()
        found = _data(ended.output)
        # Without their differences: lines of a policy may hold what nobody is shown.
        files = [each["file"] for each in found.get("files", ())]
        return json_answer({"agents": found.get("agents", []), "files": files, "notes": said})


async def _reason_in(request: web.Request) -> str | None:
    """The body's reason, empty where there is no body; None: it is none."""
    body = await request.content.read(MOST_BODY + 1) if request.can_read_body else b""
    if not body:
        return ""
    try:
        reason = json.loads(body)["reason"] if len(body) <= MOST_BODY else None
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(reason, str) or len(reason) > MOST_REASON or not reason.isprintable():
        return None
    reason = reason.strip()
    return None if reason.startswith("-") else reason


def _refused(output: bytes, said: list[str]) -> web.Response:
    reasons = [each for agent in _data(output).get("agents", ()) for each in agent["reasons"]]
    answer = ErrorAnswer(409, "invalid_request_error", "refused", "; ".join(said) or "something stands against it")
    body = json.loads(answer.body())
    body["error"]["reasons"] = reasons
    return json_answer(body, answer.status)


def _not_done(why: str, *, busy: bool = False) -> web.Response:
    if busy:
        return error_answer(ErrorAnswer(409, "invalid_request_error", "busy", why))
    return error_answer(ErrorAnswer(503, "server_error", "not_done", why))


def _data(output: bytes) -> dict[str, Any]:
    try:
        found = json.loads(output)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

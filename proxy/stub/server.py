"""The stub itself: listener, log, faults, and the acts of every answer carried out."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from proxy.stub.answers import Kind, event
from proxy.stub.ask import read_ask
from proxy.stub.calls import Call, CallLog, CallState
from proxy.stub.chat import Stamp
from proxy.stub.config import StubConfig
from proxy.stub.control import control_answer
from proxy.stub.errors import bad_request, error_answer, error_object, faulty_answer, server_problem
from proxy.stub.faults import NO_FAULT, Fault, FaultError, FaultState, parse_fault
from proxy.stub.http import Connection, Request
from proxy.stub.plan import Act, Data, Ending, Head, Pace, Pause, plan
from proxy.stub.routes import read_route, respond, vendor_headers

FAULT_HEADER = b"x-stub-fault"
# Written before a reset, bytes should arrive before it: RST overtakes what the peer's kernel has not got yet.
RESET_DELAY = 0.02


class Stub:
    """An LLM upstream on a socket of its own, in the caller's event loop.

        async with Stub(StubConfig(faults={"ft:*": "status=500"})) as stub:
            ...  # stub.url, stub.calls, stub.set_fault("ft:*", "cut=2")

    `calls` holds what it received, oldest first, and may be cleared by the caller.
    """

    def __init__(self, config: StubConfig | None = None) -> None:
        """Raise FaultError where a fault of the config cannot be read."""
        self.config = config or StubConfig()
        self.faults = FaultState(self.config.fault_rules(), self.config.seed)
        self.log = CallLog(self.config.max_calls, self.config.max_log)
        self.accepted = 0  # connections ever
        self.port = self.config.port
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._server: asyncio.Server | None = None
        per_word = 1 / self.config.tokens_per_second if self.config.tokens_per_second else 0.0
        self._pace = Pace(self.config.latency, per_word)

    @property
    def calls(self) -> list[Call]:
        """The calls received, oldest first."""
        return self.log.calls

    @property
    def url(self) -> str:
        """Scheme, host and port, without a path."""
        scheme = "http" if self.config.tls is None else "https"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{scheme}://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        await self.resume_listening()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def resume_listening(self) -> None:
        """Listen, on the same port as before; nothing happens where it already does.

        Raises:
            OSError: the address cannot be had.

        """
        if self._server is None:
            self._server = await asyncio.get_running_loop().create_server(
                self._accept,
                self.config.host,
                self.port,
                ssl=self.config.tls,
                reuse_address=True,
                backlog=1024,
            )
            self.port = self._server.sockets[0].getsockname()[1]

    async def pause_listening(self, *, drop: bool = False) -> None:
        """Close the listening socket, so that connecting is refused; `drop` resets what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # uvloop closes the socket in its next round
        if drop:
            await self.close_connections(reset=True)

    async def close_connections(self, *, reset: bool = False) -> None:
        """End every open connection, idle or not, with FIN or with RST."""
        if not self._connections:
            return
        self._empty.clear()
        for connection in list(self._connections):
            if connection.task is not None:
                connection.task.cancel()
            if reset:
                connection.abort()
            else:
                connection.close()
        await self._empty.wait()

    async def close(self) -> None:
        """Stop listening and end every connection."""
        await self.pause_listening(drop=True)

    def set_fault(self, model: str, fault: Fault | str) -> None:
        """Make calls of the models that match the glob go wrong, from now on.

        Raises:
            FaultError: the spec cannot be read.

        """
        self.faults.set(replace(parse_fault(fault) if isinstance(fault, str) else fault, model=model))

    def clear_faults(self) -> None:
        """Make everything well again."""
        self.faults.clear()

    def _accept(self) -> Connection:
        self.accepted += 1
        return Connection(self.accepted, self._handle, self._watch, self.config.max_body)

    def _watch(self, connection: Connection, opened: bool) -> None:
        if opened:
            self._connections.add(connection)
            return
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def _handle(self, request: Request, connection: Connection) -> None:
        """Answer one request: control, or log it, pick its fault, plan the answer, act."""
        control = control_answer(request, self.log, self.faults)
        if control is not None:
            await connection.start(control.status, [("content-type", control.content_type)], len(control.body))
            await connection.send(control.body)
            await connection.end()
            return
        call, acts = self._take(request)
        try:
            for act in acts:
                await _perform(act, connection, call.state)
        finally:
            call.state.ended_at = time.time()
            if not call.state.finished:
                call.state.client_gone_at = connection.gone_at

    def _take(self, request: Request) -> tuple[Call, Iterator[Act]]:
        """Log a request, and return the acts that answer it."""
        now = time.time()
        route = read_route(request.method, request.target)
        ask = read_ask(request.body)
        model = ask.model if ask else route.model
        dialect = self.config.dialect
        complaint = ""
        try:
            asked = _asked_fault(request)
        except FaultError as error:
            asked, complaint = NO_FAULT, f"{FAULT_HEADER.decode()}: {error}"
        fault = self.faults.pick(model, asked)
        number = self.log.received + 1
        call = Call(
            number,
            now,
            request.connection,
            request.method,
            request.target,
            request.headers,
            request.body,
            model,
            ask is not None and ask.stream,
            fault,
        )
        self.log.add(call)
        if complaint:
            answer = error_answer(bad_request(complaint, FAULT_HEADER.decode()), dialect)
        else:
            answer = faulty_answer(fault, model, dialect) or respond(
                route, ask, Stamp(number, int(now)), fault, self.config
            )
        error_event = event(Kind.DONE, error_object(server_problem(500), dialect)).data
        return call, plan(answer, fault, self._pace, vendor_headers(number, dialect), error_event)


def _asked_fault(request: Request) -> Fault | None:
    """Return the fault that the request's own header asks for.

    Raises:
        FaultError: it cannot be read.

    """
    spec = request.header(FAULT_HEADER)
    return None if spec is None else parse_fault(spec.decode("utf-8", "replace"))


async def _perform(act: Act, connection: Connection, state: CallState) -> None:
    """Carry out one act."""
    match act:
        case Head(status, headers, length):
            await connection.start(status, headers, length)
        case Data(data):
            state.chunks += 1
            await connection.send(data)
        case Pause(seconds):
            await asyncio.sleep(seconds)
        case Ending.CLEAN:
            await connection.end()
            state.finished = True
        case Ending.CLOSE:
            connection.close()
        case Ending.RESET:
            if state.chunks:
                await asyncio.sleep(RESET_DELAY)
            connection.abort()
        case Ending.STALL:
            await asyncio.get_running_loop().create_future()

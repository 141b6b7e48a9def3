"""`/stub/…`: the log and the faults, for users who are not in the stub's process.

    GET    /stub/calls    the log, oldest first        DELETE  forgets it
    GET    /stub/faults   the rules in force           DELETE  clears them
    POST   /stub/faults   {"MODEL GLOB": "SPEC", …}    adds rules

These requests are not calls: they are not logged, and no fault strikes them.
"""

import json
from dataclasses import replace
from typing import Any

from proxy.stub.answers import Answer, json_answer
from proxy.stub.calls import CallLog
from proxy.stub.faults import Fault, FaultError, FaultState, parse_fault
from proxy.stub.http import Request

PREFIX = b"/stub/"


def control_answer(request: Request, log: CallLog, faults: FaultState) -> Answer | None:
    """Answer a control request; None: it is none."""
    path = request.target.partition(b"?")[0]
    if not path.startswith(PREFIX):
        return None
    match (request.method, path.removeprefix(PREFIX)):
        case ("GET", b"calls"):
            return json_answer([call.summary() for call in log])
        case ("DELETE", b"calls"):
            log.calls.clear()
            return json_answer([])
        case ("GET", b"faults"):
            return _active(faults)
        case ("DELETE", b"faults"):
            faults.clear()
            return _active(faults)
        case ("POST", b"faults"):
            try:
                rules = _read_rules(request.body)
            except ValueError as error:
                return json_answer({"error": {"message": str(error)}}, status=400)
            for fault in rules:
                faults.set(fault)
            return _active(faults)
    known = "GET or DELETE /stub/calls; GET, POST or DELETE /stub/faults"
    return json_answer({"error": {"message": f"expected {known}"}}, status=404)


def _active(faults: FaultState) -> Answer:
    return json_answer([{"model": fault.model, "fault": str(fault)} for fault in faults.active()])


def _read_rules(body: bytes) -> list[Fault]:
    """Read `{"MODEL GLOB": "SPEC"}`; the first of several is to be the newest rule.

    Raises:
        ValueError: it is not JSON, or not of that shape, or a spec cannot be read.

    """
    expected = 'expected an object such as {"ft:*": "status=500,count=3"}'
    try:
        rules: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FaultError(f"{expected}, not this: {error}") from error
    if not isinstance(rules, dict) or not all(isinstance(spec, str) for spec in rules.values()):
        raise FaultError(expected)
    return [replace(parse_fault(spec), model=model) for model, spec in reversed(rules.items())]

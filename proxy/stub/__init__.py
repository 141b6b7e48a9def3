"""An LLM upstream that speaks both vendors' dialects, streams, bills tokens and misbehaves on demand.

command      argv → a running stub
server       listener, log, faults; carries out the acts of every answer
control      /stub/calls and /stub/faults
http         HTTP/1.1 on one connection
routes       path → what answers it
plan         pure: answer and fault → acts on the wire
chat, completions, catalog    pure: answers as the vendors shape them
dialect, errors               pure: what a vendor refuses, and how it says so
ask, text    pure: what was asked, what is said
faults       a fault's words, and the rules that pick one
calls        what was received
config       what a person writes
"""

from proxy.stub.calls import Call, CallState
from proxy.stub.config import StubConfig
from proxy.stub.faults import Fault, FaultError, parse_fault
from proxy.stub.server import Stub

__all__ = ["Call", "CallState", "Fault", "FaultError", "Stub", "StubConfig", "parse_fault"]

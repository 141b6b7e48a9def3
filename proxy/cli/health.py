"""Ask a running proxy whether it is well: for a container's HEALTHCHECK, and for people.

By default whether the process is alive; that is what a restart can mend.  A proxy that drains is
alive and not ready.  An agent is well while it is OK; one that is SLOW or in ERROR is still served.

Exit codes: 0 well; 1 not well, or no answer within --timeout.

examples:
  splitlane health                                  is it alive?
  splitlane health --ready --admin 127.0.0.1:9001   does it take requests?
  splitlane health --agent qa_agent --json          how is this agent served, and what is the evidence?
"""

import argparse
import json
import math
import os
import re
import socket
import time
from typing import Any
from urllib.parse import quote

ADMIN = "127.0.0.1:8081"  # where `serve` has it unless it is told otherwise
TIMEOUT = 2.0  # seconds: below the 3 s after which the image's HEALTHCHECK counts as failed
MOST = 64 * 1024  # bytes of an answer that are read
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 what is listened on is not what is asked


def address(text: str) -> tuple[str, int]:
    """Where to ask a listener of this address; raises ArgumentTypeError."""
    if text == ADMIN:
        return "127.0.0.1", 8081
    from proxy.policy.address import parse_address  # noqa: PLC0415 twice as long to import as all else here

    try:
        host, port = parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}, got {text!r}") from None
    return _EVERYWHERE.get(host, host), port


def seconds(text: str) -> float:
    """A bounded wait; raises ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 60:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and at most 60, got {text!r}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--ready", action="store_true", help="whether it takes requests, not only whether it is alive")
    asked.add_argument("--agent", metavar="NAME", help="how this agent is served")
    parser.add_argument("--admin", type=address, default=ADMIN, metavar="HOST:PORT",
                        help="the admin listener, as given to `serve` (default: %(default)s)")  # fmt: skip
    parser.add_argument("--timeout", type=seconds, default=TIMEOUT, metavar="SECONDS",
                        help="how long an answer may take (default: %(default)g)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(args: argparse.Namespace) -> int:
    """Ask once, print one line."""
    path = "/readyz" if args.ready else "/livez"
    if args.agent is not None:
        path = f"/health/{quote(os.fsencode(args.agent), safe='')}"
    host, port = args.admin
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}{path}"
    began = time.perf_counter()
    status, answer, error = None, None, None
    try:
        status, answer = _get(host, port, path, args.timeout)
    except (OSError, ValueError) as failed:
        error = _why(failed, args.timeout)
    well = status == 200 and (args.agent is None or (isinstance(answer, dict) and answer.get("status") == "OK"))
    if args.json:
        took = round(time.perf_counter() - began, 6)
        told = {"well": well, "url": url, "status": status, "answer": answer, "error": error, "seconds": took}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(f"{url}: {error or _in_words(status, answer)}")
    return 0 if well else 1


def _get(host: str, port: int, path: str, timeout: float) -> tuple[int, Any]:
    """Status, and the answer: JSON where it is some, else its text.  Raises OSError, ValueError.

    HTTP/1.0, where the end of the connection is the end of the answer: `http.client` alone takes as long to
    import as Python to start, each time that a container's health is looked at.
    """
    until = time.monotonic() + timeout
    shown = f"[{host}]" if ":" in host else host
    with socket.create_connection((host, port), timeout) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {shown}:{port}\r\n\r\n".encode())
        received = b""
        while len(received) < MOST:
            connection.settimeout(max(until - time.monotonic(), 1e-6))
            piece = connection.recv(MOST)
            if not piece:
                break
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    found = _STATUS.match(head)
    if found is None:
        raise ValueError
    text = body.decode("utf-8", "replace").strip()
    try:
        return int(found[1]), json.loads(text)
    except ValueError:
        return int(found[1]), text


def _in_words(status: int | None, answer: Any) -> str:
    match answer:
        case {"status": str(word), "reasons": list(reasons)}:
            return ": ".join(filter(None, (word, ", ".join(map(str, reasons)))))
        case {"error": {"message": str(message)}}:
            return f"{message} (status {status})"
        case str(line) if status == 200 and len(line.splitlines()) == 1:
            return line
        case str(line) if len(line.splitlines()) == 1 and len(line) < 80:
            return f"{line} (status {status})"
    return f"not an answer of Splitlane's (status {status})"


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, OSError):
        return f"no answer: {error.strerror or type(error).__name__}"
    return "no answer: what came is not HTTP"

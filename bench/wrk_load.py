"""One round of wrk against one port, checked: a round with any failed request is no measurement."""

import http.client
import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from bench.fleet import Fleet, find_tools
from bench.plan import HERE, BenchError

PATH = "/v1/chat/completions"
CONNECTIONS = 32
PATIENCE = 10  # seconds until wrk counts an answer as late: the slowest contender takes most of one
_MARK = "bench-result "


class Load(NamedTuple):
    """What wrk saw."""

    requests: int  # that were served
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int = 0

    @property
    def rps(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def probe(name: str, port: int, extra: Mapping[str, str] | None = None) -> None:
    """One request whose answer is read: wrk counts a redirect or an empty 200 as a success.

    `extra` are headers that this contender wants, here and in `load`.
    """
    body = {"model": "legal_agent", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Content-Type": "application/json", "X-Agent": "legal_agent", "X-User-Id": "user-1"}
    headers |= {"Authorization": "Bearer sk-bench", **(extra or {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)  # the first request of some loads a lot
    try:
        connection.request("POST", PATH, json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200 or not json.loads(answer)["choices"][0]["message"]["content"]:
            raise BenchError(f"{name} answered {response.status}: {answer[:300]!r}")
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise BenchError(f"{name} did not give a sound answer: {error!r}") from error
    finally:
        connection.close()


def load(
    fleet: Fleet,
    name: str,
    port: int,
    *,
    seconds: int,
    core: int,
    extra: Mapping[str, str] | None = None,
    agents: int = 0,
    connections: int = CONNECTIONS,
    refusals: bool = False,
) -> Load:
    """Load `port` for `seconds`, as the legal agent or as `agents` in turn.

    Raises BenchError on any failed request; an answer that is an error is none where `refusals` are expected.
    """
    argv = [find_tools("wrk")["wrk"], "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"--timeout={PATIENCE}s"]
    argv += [word for header in (extra or {}).items() for word in ("-H", ": ".join(header))]
    argv += ["-s", str(HERE / "wrk" / "post.lua"), f"http://127.0.0.1:{port}{PATH}"]
    if agents:
        argv += ["--", str(agents)]
    output = fleet.run(f"wrk-{name}", argv, core=core, timeout=seconds + PATIENCE + 20)
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise BenchError(f"wrk against {name} printed no result:\n{output}")
    result = json.loads(lines[0].removeprefix(_MARK))
    refused = result["errors"].pop("status") if refusals else 0
    if failed := {kind: count for kind, count in result["errors"].items() if count}:
        raise BenchError(f"{name} failed {failed} of {result['requests']} requests:\n{output}")
    if not result["requests"] or not math.isfinite(result["p99_us"]):
        raise BenchError(f"{name} answered nothing:\n{output}")
    served, seconds = result["requests"] - refused, result["duration_us"] / 1e6
    return Load(served, seconds, result["p50_us"] / 1e3, result["p99_us"] / 1e3, refused)

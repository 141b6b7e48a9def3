"""Bring a case's servers up: the upstream first, then every contender in front of it."""

import shutil
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from bench.contenders import UPSTREAM, Contender
from bench.fleet import Fleet, Process, answers, find_tools
from bench.plan import HERE, PINNED, RIVALS, RUN, BenchError, Plan, own_program

POLICY = HERE / "policy.yaml"
DEFAULT_STREAMS = 500  # the policy's default limits (512 connections) hold this many


def start_fixed_upstream(fleet: Fleet, core: int) -> Process:
    """The nginx that gives one fixed JSON answer."""
    _check_free("upstream", UPSTREAM)
    argv = [find_tools("nginx")["nginx"], "-p", f"{RUN}/", "-e", "stderr"]
    argv += ["-c", str(HERE / "nginx" / "upstream.conf")]
    return fleet.start("upstream", argv, core=core, ready=answers(UPSTREAM), in_workers=True)


def start_stream_upstream(fleet: Fleet, plan: Plan, *, hold: bool) -> Process:
    """Our own upstream of stamped chunks; with `hold` each stream stops after its first chunk."""
    _check_free("sse-upstream", UPSTREAM)
    argv = [*own_program("sse_upstream"), "--port", str(urlsplit(UPSTREAM).port)]
    argv += ["--chunks", str(plan.chunks), "--interval-ms", str(plan.interval_ms)]
    if hold:
        argv.append("--hold")
    return fleet.start("sse-upstream", argv, core=plan.cores.load, ready=answers(UPSTREAM))


def start_json_upstream(fleet: Fleet, plan: Plan) -> Process:
    """Our own upstream of fixed answers, which reads whole bodies and fails by the model it is asked for."""
    _check_free("json-upstream", UPSTREAM)
    argv = [*own_program("json_upstream"), "--port", str(urlsplit(UPSTREAM).port)]
    return fleet.start("json-upstream", argv, core=plan.cores.load, ready=answers(UPSTREAM))


def start_contender(fleet: Fleet, contender: Contender, plan: Plan, *, streams: int = 0) -> Process | None:
    """Start one contender on the proxy's core; None where there is nothing to start."""
    if not contender.argv:
        return None
    _check_free(contender.name, contender.ready)
    places = {
        "python": sys.executable,
        "nginx": find_tools("nginx")["nginx"],
        "node": shutil.which("node") or "node",
        "bench": str(HERE),
        "run": str(RUN),
        "rival": str(RIVALS / contender.name),
        "policy": str(policy_for(contender, streams)),
    }
    argv = [word.format_map(places) for word in contender.argv]
    for file in RUN.glob(f"{contender.name}.db*"):  # the store of an earlier run
        file.unlink()
    return fleet.start(
        contender.name,
        argv,
        core=plan.cores.proxy,
        ready=answers(contender.ready),
        in_workers=contender.in_workers,
        environment={name: value.format_map(places) for name, value in contender.environment.items()},
        within=contender.start_seconds,
    )


def installed(contender: Contender) -> bool:
    """Whether a rival is there as pinned."""
    return (RIVALS / contender.name / PINNED).is_file()


def start_contenders(fleet: Fleet, plan: Plan, case: str, *, streams: int = 0) -> dict[str, Process | None]:
    """Start all; a rival that does not start is lost to the plan."""
    servers: dict[str, Process | None] = {}
    for contender in plan.standing:
        plan.say(f"{case}: starting {contender.name}")
        with plan.at_its_own_risk(contender):
            servers[contender.name] = start_contender(fleet, contender, plan, streams=streams)
    return servers


def policy_for(contender: Contender, streams: int) -> Path:
    """The benchmark's policy; a copy where a contender adds to it, or where its limits refuse so many streams."""
    if streams <= DEFAULT_STREAMS and not contender.sections:
        return POLICY
    policy = yaml.safe_load(POLICY.read_text())
    if streams > DEFAULT_STREAMS:
        room = 2 * streams  # one agent of several gets no more than `agent_share` of it
        for upstream in policy["upstreams"].values():
            upstream["pool"] = {"max_connections": room}
        policy["limits"] = {"max_in_flight": room}
    policy.update(contender.sections)
    folder = RUN / "policies"  # which a proxy watches: nothing else is written there
    folder.mkdir(exist_ok=True)
    written = folder / f"{contender.name}.yaml"
    written.write_text(yaml.safe_dump(policy, sort_keys=False))
    return written


def _check_free(name: str, url: str) -> None:
    """A server already on the port would be measured in the contender's place."""
    port = urlsplit(url).port
    with socket.socket() as probe:
        probe.settimeout(2)
        if probe.connect_ex(("127.0.0.1", port or 0)) == 0:
            raise BenchError(f"port {port}, needed for {name}, is in use (another benchmark running?)", 2)

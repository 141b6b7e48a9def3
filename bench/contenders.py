"""What is measured: one row per contender.  A new rival is a new row.

`argv` may use {python}, {nginx}, {node}, {bench} (this folder), {run} (the run folder, also the working
directory), {rival} (the folder it is installed in) and {policy} (the policy file, with limits raised where a
case opens many streams); `environment` may use {bench} and {run}.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

UPSTREAM = "http://127.0.0.1:9100/"  # every contender forwards here
YARDSTICK = "nginx"
QUICK = ("direct", YARDSTICK, "splitlane", "rolter")  # who takes part in a short look
_BASELINE, _FINE_TUNED = "open-mistral-7b", "ft:open-mistral-7b:5010731d:20251031:eb2da6b7"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way from the client to the upstream."""

    name: str
    port: int  # where JSON requests go
    sse_port: int  # where streams go: the same, unless a server must be told not to buffer
    ready: str  # answers 200 as soon as the contender can serve
    argv: tuple[str, ...] = ()  # empty: nothing is started (no proxy at all)
    in_workers: bool = False  # the work is done in the process's children
    sections: Mapping[str, object] = field(default_factory=dict)  # of the policy, beside what `policy.yaml` has
    rival: bool = False  # somebody else's: installed by `bench.install`, and its failure costs its own row only
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # that clients send it, beside the usual ones
    start_seconds: float = 20.0  # within which it must be ready
    # What it can relay on its core; more streams than that would measure its queue.  None: all there are.
    chunks_per_second: int | None = None
    opens_per_second: int = 1000  # streams; a listen queue that overflows refuses clients

    def streams(self, wanted: int, interval_ms: int) -> int:
        """How many streams of a chunk every `interval_ms` it is given where `wanted` are asked for."""
        if self.chunks_per_second is None:
            return wanted
        return min(wanted, max(1, self.chunks_per_second * interval_ms // 1000))


# Its routing goes by a header of each request.
_PORTKEY = {
    "strategy": {"mode": "loadbalance"},
    "targets": [
        {
            "provider": "openai",
            "custom_host": f"{UPSTREAM}v1",
            "api_key": "sk-bench",
            "weight": weight,
            "override_params": {"model": model},
        }
        for weight, model in ((0.9, _BASELINE), (0.1, _FINE_TUNED))
    ],
}
# Metrics, and beside them what a deployment has: budgets that are never spent, the ledger, a log of one in a hundred.
_EVERYTHING: dict[str, object] = {
    "observability": {"log_level": "info", "access_log": "1%"},
    "prices": {"*": {"input": 0.25, "output": 0.25}},
    "budgets": {"hourly_usd": 1_000_000, "daily_usd": 1_000_000},
    "store": {"url": f"sqlite:///{Path(__file__).resolve().parent / 'run' / 'splitlane-all.db'}"},
}

CONTENDERS = (
    Contender("direct", port=9100, sse_port=9100, ready=UPSTREAM),
    Contender(
        YARDSTICK,
        port=9200,
        sse_port=9210,
        ready="http://127.0.0.1:9200/",
        argv=("{nginx}", "-p", "{run}/", "-e", "stderr", "-c", "{bench}/nginx/proxy.conf"),
        in_workers=True,
    ),
    Contender(
        "splitlane",
        port=9201,
        sse_port=9201,
        ready="http://127.0.0.1:9211/readyz",
        argv=(
            *("{python}", "-m", "proxy", "serve", "--policy", "{policy}"),
            *("--listen", "127.0.0.1:9201", "--admin", "127.0.0.1:9211"),
        ),
    ),
    Contender(
        "splitlane-all",
        port=9205,
        sse_port=9205,
        ready="http://127.0.0.1:9215/readyz",
        argv=(
            *("{python}", "-m", "proxy", "serve", "--policy", "{policy}"),
            *("--listen", "127.0.0.1:9205", "--admin", "127.0.0.1:9215"),
        ),
        sections=_EVERYTHING,
    ),
    Contender(
        "envoy",
        port=9202,
        sse_port=9202,
        ready="http://127.0.0.1:9202/",
        argv=(
            *("{rival}/bin/envoy", "-c", "{bench}/rivals/envoy.yaml", "--concurrency", "1", "-l", "error"),
            "--use-dynamic-base-id",  # beside another Envoy of this machine
        ),
        rival=True,
    ),
    Contender(
        "rolter",
        port=9301,
        sse_port=9301,
        ready="http://127.0.0.1:9301/readyz",
        argv=("{rival}/bin/rolter", "gateway", "-c", "{bench}/rivals/rolter.toml"),
        environment={"TOKIO_WORKER_THREADS": "1", "ROLTER_UPDATE_CHECK": "false"},
        rival=True,
    ),
    Contender(
        "ferrogw",
        port=9302,
        sse_port=9302,
        ready="http://127.0.0.1:9302/readyz",
        argv=("{rival}/bin/ferrogw", "serve"),
        environment={
            "GATEWAY_CONFIG": "{bench}/rivals/ferrogw.yaml",
            "PORT": "9302",
            "GOMAXPROCS": "1",
            "LOG_LEVEL": "error",
            "MASTER_KEY": "sk-bench",
            "RATE_LIMIT_RPS": "10000000",
            "RATE_LIMIT_BURST": "10000000",
            "MISTRAL_API_KEY": "sk-bench",
            "MISTRAL_BASE_URL": UPSTREAM.rstrip("/"),
            "OPENAI_API_KEY": "sk-bench",
            "OPENAI_BASE_URL": UPSTREAM.rstrip("/"),
        },
        rival=True,
    ),
    Contender(
        "portkey",
        port=9303,
        sse_port=9303,
        ready="http://127.0.0.1:9303/",
        argv=(
            *("{node}", "{rival}/node_modules/@portkey-ai/gateway/build/start-server.js"),
            *("--headless", "--port=9303"),
        ),
        headers={"x-portkey-config": json.dumps(_PORTKEY, separators=(",", ":"))},
        opens_per_second=50,
        rival=True,
    ),
    Contender(
        "litellm",
        port=9304,
        sse_port=9304,
        ready="http://127.0.0.1:9304/health/liveliness",
        argv=(
            *("{rival}/bin/litellm", "--config", "{bench}/rivals/litellm.yaml"),
            *("--host", "127.0.0.1", "--port", "9304", "--num_workers", "1", "--telemetry", "False"),
        ),
        environment={
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it asks the internet for prices
        },
        start_seconds=240.0,
        chunks_per_second=500,
        opens_per_second=20,
        rival=True,
    ),
)


PROGRAM = ("{python}", "-m", "proxy")


def ours(
    name: str, data: int, admin: int, sections: Mapping[str, object], program: Sequence[str] = PROGRAM
) -> Contender:
    """Splitlane on two ports, with a policy of its own."""
    listen = ("--listen", f"127.0.0.1:{data}", "--admin", f"127.0.0.1:{admin}")
    return Contender(
        name,
        port=data,
        sse_port=data,
        ready=f"http://127.0.0.1:{admin}/readyz",
        argv=(*program, "serve", "--policy", "{policy}", *listen),
        sections=sections,
    )


def chosen(
    names: Iterable[str], commands: Iterable[str], among: Sequence[Contender], yardstick: str
) -> tuple[Contender, ...]:
    """The named contenders (none named: all), always with the yardstick; `commands` are NAME=COMMAND.

    Raises ValueError on an unknown name.
    """
    table = {contender.name: contender for contender in among}
    wanted = set(names) or set(table)
    for command in commands:
        name, equals, line = command.partition("=")
        if not equals or name not in table:
            raise ValueError(f"expected NAME=COMMAND with NAME one of {', '.join(table)}: {command!r}")
        table[name] = replace(table[name], argv=tuple(shlex.split(line)))
    if unknown := wanted - set(table):
        raise ValueError(f"unknown contender {', '.join(sorted(unknown))}; known: {', '.join(table)}")
    return tuple(c for c in table.values() if c.name in wanted or c.name == yardstick)

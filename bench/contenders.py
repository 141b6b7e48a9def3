"""What is measured: one row per contender.  A new rival is a new row.

`argv` may use {python}, {nginx}, {bench} (this folder), {run} (the run folder, also the working
directory) and {policy} (the policy file, with limits raised where a case opens many streams).
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

UPSTREAM = "http://127.0.0.1:9100/"  # every contender forwards here
YARDSTICK = "nginx"


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

"""Say what a ramp would do before anybody is in it: how many days its stages take, how often it rolls a good
model back, how surely it catches a worse one, and how many users have met that one by then.

Each ramp is simulated request by request, twice: with a fine-tune as good as the baseline, and with one that
answers --effect fewer requests. The steps and gates are the policy's. The traffic is assumed (the options),
or, with --from-store, drawn from users whose requests on the baseline a store has kept.

With --observe nothing is simulated: the users seen at 0 % are split at random, many times, and the gates say
how often they would have raised a false alarm on this very traffic.

A time is 2026-11-20T00:00Z (without a zone: UTC), or how long ago it was: 90m, 24h, 7d.

Exit codes: 0 done; 1 NumPy is missing: pip install 'splitlane[simulate]'; 2 bad input, or a store without
the data that it takes.

examples:
  splitlane simulate --users-per-day 500 --requests-per-user 20
  splitlane simulate --policy policies/production.yaml --success 95% --effect -1 --days 28
  splitlane simulate --from-store --agent qa_agent --since 14d
  splitlane simulate --observe --agent qa_agent
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from proxy.cli.progress import Progress
from proxy.cli.report import moment, store_url
from proxy.cli.simulate_text import json_of, lines_of
from proxy.experiment import false_alarms_text
from proxy.experiment.false_alarms import false_alarms
from proxy.experiment.read import read_evidence
from proxy.experiment.simulate.assumptions import Course, Effect, Traffic
from proxy.ledger.database import Database, DatabaseUnavailable
from proxy.ledger.migrate import version_of
from proxy.ledger.open import open_database, sqlite_path
from proxy.policy.load import LoadedPolicy, default_policy_path, read_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.units import parse_percent, parse_points

if TYPE_CHECKING:
    from proxy.experiment.simulate.trials import Recorded

MAX_RAMPS, MAX_DAYS, MAX_LOOKS, MAX_USERS = 100_000, 365, 96, 1_000_000
_OF_THE_POLICY = ""  # the store that it names


class _Unable(Exception):  # noqa: N818 the message of a bad end
    """Why the command ends; and its exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers within bounds."""

    return _parser(int, low, high, f"a whole number from {low} to {high}")


def number(low: float, high: float) -> Callable[[str], float]:
    """A parser of numbers within bounds."""
    return _parser(float, low, high, f"a number from {low:g} to {high:g}")


def share(text: str) -> float:
    """`98%` or `98`."""
    return _parser(lambda word: float(word) / 100, 0, 1, "a share, such as 98%")(text.removesuffix("%"))


def points(text: str) -> float:
    """`-2` or `-2pp`: percentage points."""
    parse = parse_points if text.endswith("pp") else lambda word: float(word) / 100
    return _parser(parse, -1, 1, "percentage points, such as -2 or -2pp")(text)


def rise(text: str) -> float:
    """`10` or `+10%`."""
    parse = parse_percent if text.endswith("%") else lambda word: float(word) / 100
    return _parser(parse, -0.99, 100, "a per cent, such as 10 or +10%")(text)


_Number = TypeVar("_Number", int, float)


def _parser(parse: Callable[[str], _Number], low: float, high: float, expected: str) -> Callable[[str], _Number]:
    def parsed(text: str) -> _Number:
        with suppress(ValueError):
            found = parse(text)
            if low <= found <= high:
                return found
        raise argparse.ArgumentTypeError(f"expected {expected}")

    return parsed


def _store(text: str) -> str:
    """A store's URL, or nothing."""
    return text if text == _OF_THE_POLICY else store_url(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--policy", type=Path, metavar="FILE",
        help="policy file with the steps and the gates (default: policies/$GENESIS_ENV.yaml)")  # fmt: skip
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-store", nargs="?", type=_store, const=_OF_THE_POLICY, metavar="URL",
                        help="draw recorded users of the baseline; without a URL: the policy's store")  # fmt: skip
    source.add_argument("--observe", nargs="?", type=_store, const=_OF_THE_POLICY, metavar="URL",
                        help="false alarms on users recorded at 0 %%; without a URL: the policy's store")  # fmt: skip
    add("--agent", metavar="NAME", help="whose requests, with --from-store and --observe")
    add("--since", type=moment, metavar="TIME", default="14d", help="recorded since then, --from-store (14d ago)")
    add("--ramps", type=whole(1, MAX_RAMPS), metavar="N", default=1000, help="ramps of each kind (1000)")
    add("--relabelings", type=whole(1, 10_000), metavar="N", default=200, help="random splits, --observe (200)")
    add("--days", type=whole(1, MAX_DAYS), metavar="N", default=14, help="days that a ramp is watched (14)")
    add("--looks", type=whole(1, MAX_LOOKS), metavar="N", default=4, help="looks a day (4)")
    add("--seed", type=whole(0, 2**32 - 1), metavar="N", default=1, help="of everything that is drawn (1)")
    traffic = Traffic()
    add("--users-per-day", type=whole(1, MAX_USERS), metavar="N",
        help=f"distinct users a day ({traffic.users_per_day}; with --from-store: as recorded)")  # fmt: skip
    add("--requests-per-user", type=number(1, 10_000), metavar="N", default=traffic.requests_per_user,
        help=f"mean requests of a user on a day that they come ({traffic.requests_per_user:g})")  # fmt: skip
    add("--spread", type=number(0, 3), metavar="N", default=traffic.spread,
        help=f"how heavy the heavy users are: sd of the logarithm of their requests ({traffic.spread:g})")  # fmt: skip
    add("--returning", type=share, metavar="SHARE", default=traffic.returning,
        help="of a day's users, who have come before (60%%)")  # fmt: skip
    add("--success", type=share, metavar="SHARE", default=traffic.success,
        help="the baseline's success rate (98%%)")  # fmt: skip
    add("--heterogeneity", type=points, metavar="PP", default=traffic.heterogeneity,
        help="sd of the failure rate between users, in points (2)")  # fmt: skip
    add("--drift", type=points, metavar="PP", default=traffic.drift,
        help="change of everybody's success rate by the day, in points (0)")  # fmt: skip
    add("--latency", type=number(0.001, 3600), metavar="SECONDS", default=traffic.latency,
        help=f"median ({traffic.latency:g})")  # fmt: skip
    add("--cost", type=number(0, 1000), metavar="USD", default=traffic.cost,
        help=f"of a request, median ({traffic.cost:g})")  # fmt: skip
    effect = Effect()
    add("--effect", type=points, metavar="PP", default=-0.02, help="of the worse fine-tune on success, in points (-2)")
    add("--rescued", type=share, metavar="SHARE", default=effect.rescued,
        help="of any fine-tune's requests, that the baseline answers in its place (0.5%%)")  # fmt: skip
    add("--latency-effect", type=rise, metavar="PERCENT", default=effect.latency,
        help="of any fine-tune on latency (0)")  # fmt: skip
    add("--cost-effect", type=rise, metavar="PERCENT", default=effect.cost, help="of any fine-tune on cost (0)")
    add("--json", action="store_true", help="print one JSON object; shares are 0 … 1")


def run(args: argparse.Namespace) -> int:
    """Simulate; raises `PolicyError`."""
    try:
        return _observe(args) if args.observe is not None else _simulate(args)
    except _Unable as error:
        print(f"splitlane simulate: {error}", file=sys.stderr)
        return error.code
    except DatabaseUnavailable as error:
        print(f"splitlane simulate: {error}", file=sys.stderr)
        return 2


def _simulate(args: argparse.Namespace) -> int:
    loaded = _policy(args)
    rollout = loaded.config.rollout
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process for each core is what keeps all busy
    try:
        from proxy.experiment.simulate.summary import summarise  # noqa: PLC0415
        from proxy.experiment.simulate.trials import Simulation, run_trials  # noqa: PLC0415 an extra
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise _Unable("NumPy is missing; pip install 'splitlane[simulate]'", 1) from None
    traffic = _assumed(args) if args.from_store is None else _recorded(args, loaded)
    simulation = Simulation(traffic, rollout, Course(args.days, args.looks), args.seed)
    effects = {name: Effect(success, args.rescued, args.latency_effect, args.cost_effect)
               for name, success in (("as good", 0.0), (f"{100 * args.effect:+g} pp", args.effect))}  # fmt: skip
    with Progress("ramps", len(effects) * args.ramps) as progress:
        found = {
            name: summarise(run_trials(simulation, effect, args.ramps, progress.step))
            for name, effect in effects.items()
        }
    if args.json:
        print(json.dumps(json_of(simulation, effects, found), ensure_ascii=False))
    else:
        print(*lines_of(simulation, effects, found), sep="\n")
    return 0


def _observe(args: argparse.Namespace) -> int:
    loaded = _policy(args)
    agent = _agent(args, loaded)
    salt = loaded.policy.agents[agent.encode()].salt
    with closing(_database(args.observe, loaded)) as database:
        evidence = read_evidence(database, agent, salt, 0.0, time.time())
    stage = next((stage for stage in evidence.stages if stage.percentage == 0), None)
    if stage is None:
        raise _Unable(f"no user of {agent} was seen at 0 % under its salt {salt}")
    with Progress("random splits", args.relabelings) as progress:
        found = false_alarms(
            stage, loaded.config.rollout, evidence.thresholds, args.relabelings, args.seed, progress.step
        )
    if args.json:
        print(json.dumps({"agent": agent, **false_alarms_text.json_of(found)}, ensure_ascii=False))
    else:
        print(agent, *false_alarms_text.lines_of(found), sep="\n")
    return 0


def _assumed(args: argparse.Namespace) -> Traffic:
    try:
        return Traffic(
            users_per_day=args.users_per_day or Traffic().users_per_day,
            requests_per_user=args.requests_per_user,
            spread=args.spread,
            returning=args.returning,
            success=args.success,
            heterogeneity=args.heterogeneity,
            drift=args.drift,
            latency=args.latency,
            cost=args.cost,
        )
    except ValueError as error:
        raise _Unable(str(error)) from None


def _recorded(args: argparse.Namespace, loaded: LoadedPolicy) -> "Recorded":
    from proxy.experiment.simulate.recorded import TooLittleRecorded, read_record  # noqa: PLC0415 an extra
    from proxy.experiment.simulate.trials import Recorded  # noqa: PLC0415

    agent = _agent(args, loaded)
    with closing(_database(args.from_store, loaded)) as database:
        try:
            record = read_record(database, agent, args.since)
        except TooLittleRecorded as error:
            raise _Unable(str(error)) from None
    people = record.users
    if args.users_per_day is not None:
        people = max(1, round(people * args.users_per_day / record.users_per_day))
    return Recorded(agent, record, people)


def _policy(args: argparse.Namespace) -> LoadedPolicy:
    return read_policy(args.policy or default_policy_path(os.environ), Placeholders(os.environ))


def _agent(args: argparse.Namespace, loaded: LoadedPolicy) -> str:
    """The agent that is meant."""
    agents = list(loaded.config.agents)
    if args.agent is None and len(agents) == 1:
        return agents[0]
    if args.agent not in agents:
        wrong = "say whose requests" if args.agent is None else f"there is no agent {args.agent}"
        raise _Unable(f"{wrong}: --agent {'|'.join(agents)}")
    return str(args.agent)


def _database(url: str, loaded: LoadedPolicy) -> Database:
    """The store, for reading; the policy's where the URL is empty.  Raises DatabaseUnavailable."""
    named = url or loaded.policy.store.url
    if named is None:
        raise _Unable(f"{loaded.files[0]} keeps no records: set store.url there, or give a URL")
    file = sqlite_path(named)
    if file is not None and not file.exists():
        raise _Unable(f"there is no file {file}: no proxy has written to it yet")
    database = open_database(named, read_only=True)
    version_of(database)
    return database

"""The registry: which fine-tuned models the agents have.

verify asks every fine-tuned and baseline model of a policy for one token, through the vendor's SDK
(pip install 'splitlane[models]'); it costs that many tokens. import writes new fine-tuned models into
the policy, with comments and order kept: from folders (models/AGENT/model_id.txt) or from the finished
fine-tuning jobs of the policy's Mistral upstream, where a job's suffix names its agent. It prints who
moves, in every policy that shares the file; a fine-tuned model's users are drawn anew unless the agent's
salt is pinned.

Exit codes: 0 done; 1 verify: a model does not answer; import: an upstream or a file failed; 2 bad input.

examples:
  splitlane models verify --policy policies/production.yaml --json
  splitlane models import --from models/ --policy policies/production.yaml --dry-run
  splitlane models import --from jobs --map 5f2a…=qa_agent
  splitlane models import --from models/ --fallback open-mistral-7b
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from proxy.policy.diff import diff_policies
from proxy.policy.edit import EditError, edit_policy, written
from proxy.policy.load import default_policy_path, load_policy, read_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.splice import KeyPath, Value

FROM_JOBS = "jobs"


class RegistryError(Exception):
    """What keeps an import from being done; each line says one thing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--policy", type=Path, metavar="FILE", help="policy file (default: policies/$GENESIS_ENV.yaml)")
    shared.add_argument("--json", action="store_true", help="print JSON")
    kinds = parser.add_subparsers(dest="registry", required=True, metavar="verify|import")
    kinds.add_parser("verify", parents=[shared], help="ask every model for one token")
    importing = kinds.add_parser("import", parents=[shared], help="write fine-tuned models into the policy")
    importing.add_argument("--from", dest="source", required=True, metavar="FOLDER|jobs", help="where the models are")
    importing.add_argument(
        "--map", action="append", default=[], metavar="JOB=AGENT", help="the agent of a job; may be repeated"
    )
    importing.add_argument("--fallback", metavar="MODEL", help="the baseline of agents that the policy does not know")
    importing.add_argument("--dry-run", action="store_true", help="print what would be written, and write nothing")


def run(args: argparse.Namespace) -> int:
    """Verify or import; raises `PolicyError`."""
    path = args.policy or default_policy_path(os.environ)
    if args.registry == "verify":
        return _verify(path, as_json=args.json)
    try:
        return _import(path, args)
    except RegistryError as error:
        print(error, file=sys.stderr)
        return 2


def _verify(path: Path, *, as_json: bool) -> int:
    from proxy.cli.probe import missing_sdks, probe_models  # noqa: PLC0415 SDKs take seconds to import

    policy = load_policy(path, os.environ)
    if missing := missing_sdks(policy):
        print(
            f"splitlane models: {', '.join(missing)} is missing; pip install 'splitlane[models]'",
            file=sys.stderr,
        )
        return 1
    verdicts = asyncio.run(probe_models(policy))
    if as_json:
        print(json.dumps([verdict._asdict() for verdict in verdicts], ensure_ascii=False))
    else:
        print(*verdicts, sep="\n")
    return int(any(verdict.fails for verdict in verdicts))


def _import(path: Path, args: argparse.Namespace) -> int:
    env: Mapping[str, str] = Placeholders(os.environ)
    if args.source == FROM_JOBS:
        from proxy.cli.jobs import models_from_jobs  # noqa: PLC0415 aiohttp

        env = os.environ
        found = models_from_jobs(load_policy(path, env), _mapped(args.map))
    elif args.map:
        raise RegistryError("splitlane models: --map goes with --from jobs; a folder's name is its agent")
    else:
        found = models_from_folder(Path(args.source))
    known = read_policy(path, env).config.agents
    unknown = [agent for agent in found if agent not in known]
    if unknown and args.fallback is None:
        raise RegistryError(
            f"splitlane models: the policy does not know {', '.join(unknown)}; say with --fallback MODEL "
            "what their baseline is, or rename"
        )
    changes: dict[KeyPath, Value] = {}
    for agent, model in found.items():
        key: KeyPath = ("agents", agent, "fine_tuned")
        if agent in unknown:
            changes[key[:2]] = {"fine_tuned": model, "fallback": args.fallback}
        elif known[agent].fine_tuned.model != model:
            text = written(path, key)
            key = (*key, "model") if isinstance(text, dict) else key
            if "${" in str(written(path, key)):
                raise RegistryError(
                    f"splitlane models: agents.{agent}.fine_tuned comes through ${{…}}; change what that stands for, "
                    f"or write the id there by hand: {model}"
                )
            changes[key] = model
    try:
        edited = edit_policy(path, changes, env, where_written=True, dry_run=args.dry_run)
    except EditError as error:
        print(f"splitlane models: {error}", file=sys.stderr)
        return 1
    diff = diff_policies(edited.old.policy, edited.new.policy)
    others = {str(other.path): diff_policies(other.old.policy, other.new.policy) for other in edited.others}
    if args.json:
        shown = {
            "written": not args.dry_run,
            "files": [{"file": str(edit.path), "diff": edit.unified()} for edit in edited.files],
            "diff": diff.as_json(),
            "others": {name: other.as_json() for name, other in others.items()},
        }
        print(json.dumps(shown, ensure_ascii=False))
        return 0
    for edit in edited.files:
        print(edit.unified() if args.dry_run else f"wrote {edit.path}")
    if edited.files:
        print(*diff.lines(), sep="\n")
        for name, other in others.items():
            print(f"\n{name} extends the same file and changes too:", *other.lines(), sep="\n")
    else:
        print("nothing to change: the policy has these models")
    return 0


def models_from_folder(folder: Path) -> dict[str, str]:
    """Agent → model, of `folder/AGENT/model_id.txt`; raises `RegistryError` with all that is wrong."""
    found: dict[str, str] = {}
    wrong: list[str] = []
    for path in sorted(folder.glob("*/model_id.txt")):
        try:
            words = path.read_text("utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            wrong.append(f"{path}: got an unreadable file ({error}), expected a model's id")
            continue
        if len(words) == 1 and len(words[0]) <= 200 and words[0].isprintable():
            found[path.parent.name] = words[0]
        else:
            wrong.append(f"{path}: got {len(words)} words, expected one: a model's id")
    if not found and not wrong:
        wrong.append(f"{folder}: got no AGENT/model_id.txt in it, expected one for each agent")
    if wrong:
        raise RegistryError("\n".join(wrong))
    return found


def _mapped(texts: list[str]) -> dict[str, str]:
    mapped = {}
    for text in texts:
        job, equals, agent = text.partition("=")
        if not equals or not job or not agent:
            raise RegistryError(f"splitlane models: got --map {text!r}, expected JOB=AGENT")
        mapped[job] = agent
    return mapped

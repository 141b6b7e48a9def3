"""`splitlane stub`: run a stub until a signal."""

import argparse
import asyncio
import math
import signal
import sys

from proxy.stub.config import StubConfig
from proxy.stub.faults import FaultError, grammar, parse_rule
from proxy.stub.server import Stub
from proxy.words import Dialect

EXIT_OK = 0
EXIT_NO_LISTENER = 1
EXIT_USAGE = 2
DEFAULT_PORT = 9000

EPILOG = f"""\
examples:
  splitlane stub
  splitlane stub --dialect mistral --port 9001 --models open-mistral-7b,ft:open-mistral-7b:qa
  splitlane stub --fault 'ft:*=status=500,probability=0.2' --seed 7
  splitlane stub --fault 'ft:*=cut=3' --fault '*=drip=0.05'
  curl -d '{{"model":"m","messages":[]}}' -H 'x-stub-fault: status=429,retry_after=0.3' \\
       http://127.0.0.1:{DEFAULT_PORT}/v1/chat/completions
  curl -d '{{"ft:*": "silence,count=5"}}' http://127.0.0.1:{DEFAULT_PORT}/stub/faults
  curl http://127.0.0.1:{DEFAULT_PORT}/stub/calls

A fault is a list of words, `status=503,slow=0.5`. It can be set for a model (--fault, POST
/stub/faults; the first that matches wins) or for one call (the header x-stub-fault). Its words:
{grammar()}

exit codes: 0 stopped by a signal, 1 the address cannot be had, 2 wrong arguments
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = "An LLM upstream that speaks both vendors' dialects and misbehaves on demand."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG.replace("%", "%%")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: any free one (%(default)s)")
    parser.add_argument(
        "--dialect",
        choices=[each.value for each in Dialect],
        default=Dialect.OPENAI.value,
        help="(%(default)s)",
    )
    parser.add_argument(
        "--fault",
        metavar="MODEL=SPEC",
        action="append",
        default=[],
        help="a fault for a model glob; repeatable",
    )
    parser.add_argument("--models", metavar="A,B", help="the models it knows (every name)")
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="before the headers (0)")
    parser.add_argument(
        "--tokens-per-second", type=float, default=0.0, metavar="N", help="pace of the words (unlimited)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of faults with a probability (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Run until SIGINT or SIGTERM; return the exit code."""
    try:
        config = read_config(args)
    except ValueError as error:
        print(f"splitlane stub: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return asyncio.run(_serve(config))
    except OSError as error:
        print(f"splitlane stub: cannot listen on {config.host}:{config.port}: {error}", file=sys.stderr)
        return EXIT_NO_LISTENER


def read_config(args: argparse.Namespace) -> StubConfig:
    """Return the stub that the options describe.

    Raises:
        ValueError: a value cannot be read; the text is one line.

    """
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port {args.port}: expected 0 to 65535")
    if not (0 <= args.latency < math.inf and 0 <= args.tokens_per_second < math.inf):
        raise ValueError("--latency and --tokens-per-second: expected 0 or more")
    models = tuple(name for each in args.models.split(",") if (name := each.strip())) if args.models else None
    try:
        faults = [parse_rule(text) for text in args.fault]
    except FaultError as error:
        raise ValueError(f"--fault: {error}") from error
    globs = [fault.model for fault in faults]
    if twice := next((glob for glob in globs if globs.count(glob) > 1), None):
        raise ValueError(f"--fault: {twice} is given twice; expected one SPEC per model, its words joined by commas")
    return StubConfig(
        host=args.host,
        port=args.port,
        dialect=Dialect(args.dialect),
        models=models,
        faults=dict(zip(globs, faults, strict=True)),
        latency=args.latency,
        tokens_per_second=args.tokens_per_second,
        seed=args.seed,
    )


async def _serve(config: StubConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop.set)
    async with Stub(config) as stub:
        body = '{"model":"demo","messages":[{"role":"user","content":"hello"}]}'
        example = f"curl -d '{body}' {stub.url}/v1/chat/completions"
        print(f"splitlane stub: {config.dialect} dialect on {stub.url}   try: {example}", flush=True)
        await stop.wait()
    return EXIT_OK

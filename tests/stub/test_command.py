import argparse
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from proxy.stub.command import EXIT_NO_LISTENER, EXIT_USAGE, add_arguments, read_config, run
from proxy.stub.faults import Fault
from proxy.words import Dialect

PROGRAM = (
    "import argparse; from proxy.stub.command import add_arguments, run;"
    "parser = argparse.ArgumentParser(); add_arguments(parser); raise SystemExit(run(parser.parse_args()))"
)


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="splitlane stub")
    add_arguments(parser)
    return parser.parse_args(argv)


def test_options_become_a_config() -> None:
    config = read_config(
        parse(
            "--dialect",
            "mistral",
            "--models",
            "a, b",
            "--fault",
            "ft:*=cut=2",
            "--fault",
            "slow=1",
            "--port",
            "0",
        )
    )
    assert config.dialect is Dialect.MISTRAL
    assert config.models == ("a", "b")
    assert config.faults == {"ft:*": Fault(model="ft:*", cut=2), "*": Fault(slow=1.0)}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--fault", "m=cut=x"], "a whole number"),
        (["--fault", "m"], "expected"),
        (["--fault", "m=reset", "--fault", "m=silence"], "given twice"),
        (["--port", "99999"], "0 to 65535"),
        (["--latency", "-1"], "0 or more"),
        (["--latency", "nan"], "0 or more"),
    ],
)
def test_wrong_option_is_one_line_and_exit_2(
    argv: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(parse(*argv)) == EXIT_USAGE
    shown = capsys.readouterr()
    assert expected in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out


def test_address_in_use_is_one_line_and_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(parse("--port", str(taken.getsockname()[1]))) == EXIT_NO_LISTENER
    assert "cannot listen on 127.0.0.1:" in capsys.readouterr().err


def test_help_shows_examples_and_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse("--help")
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert "splitlane stub --fault" in shown
    assert "cut_reset=N" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r" on (http://127\.0\.0\.1:\d+) ", line)
        assert found is not None
        assert "curl" in line
        with urllib.request.urlopen(f"{found[1]}/v1/models", timeout=5) as answer:
            assert answer.status == 200
        process.send_signal(number)
        assert process.wait(5) == 0
        assert process.stdout.read() == ""
        assert process.stderr.read() == ""

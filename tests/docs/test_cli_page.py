"""docs/cli.md is what the commands do: their options, their output, their exit codes."""

import re
import shlex

import pytest

from proxy.cli import COMMANDS
from tests.cli.running import splitlane
from tests.docs.pages import bare, help_of, rows, section

PAGE = "docs/cli.md"
SUBCOMMANDS = {
    "models": ("verify", "import"),
    "rollout": ("", "run", "history"),  # the other orders' options are among these
}


def options_of(command: str) -> set[str]:
    """The options that `--help` lists, of all subcommands; without `--help` itself."""
    found: set[str] = set()
    for words in ((command, sub) for sub in SUBCOMMANDS.get(command, ("",))):
        shown = help_of(*filter(None, words))
        listed = shown.partition("\noptions:\n")[2].partition("\n\n")[0]
        found |= set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", listed, re.MULTILINE))
    return found - {"--help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_those_of_the_help(command: str) -> None:
    text = section(PAGE, f"splitlane {command}")
    assert {bare(name) for name, _ in rows(text, "option")} == options_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_exit_codes_are_told(command: str) -> None:
    assert re.search(r"^Exit codes: 0 ", section(PAGE, f"splitlane {command}"), re.MULTILINE)


@pytest.mark.parametrize("command", ["check", "diff", "assign"])
def test_output_shown_is_the_commands(command: str) -> None:
    text = section(PAGE, f"splitlane {command}")
    shown = re.search(r"```bash\nsplitlane ([^\n]+)\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    ran = splitlane(*shlex.split(shown[1]))
    assert ran.returncode == 0
    assert _without_hashes(ran.stdout) == _without_hashes(shown[2])


def _without_hashes(text: str) -> str:
    """Policies' hashes change with every comment in a policy file."""
    return re.sub(r"\b[0-9a-f]{12}\b", "…", text)

"""`splitlane serve` starts without what only other commands need."""

import subprocess
import sys

import pytest

from tests.support.served import ROOT

HEAVY = ("mistralai", "openai", "httpx", "httpx2", "opentelemetry", "google.protobuf")


@pytest.mark.parametrize(
    ("command", "also"),
    [
        ("serve", ()),
        ("check", ("aiohttp",)),
        ("diff", ("aiohttp",)),
        ("models", ("aiohttp",)),
        ("rollout", ("aiohttp",)),
        ("report", ("aiohttp", "matplotlib", "numpy")),
    ],
)
def test_command_is_imported_without_sdks(command: str, also: tuple[str, ...]) -> None:
    code = (
        "import sys; from proxy.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {(*HEAVY, *also)!r} if name in sys.modules], file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stderr == "[]\n"

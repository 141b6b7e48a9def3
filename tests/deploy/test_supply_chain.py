"""What the image consists of, and whether anybody asked about it: the bill of materials, `make audit`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.test_image import FOLDER, locked
from tests.support.served import ROOT

SBOM: dict[str, Any] = json.loads((FOLDER / "sbom.cdx.json").read_text("utf-8"))


def test_bill_of_materials_lists_exactly_what_is_locked() -> None:
    listed = {each["name"]: each["version"] for each in SBOM["components"]}
    assert listed == locked("requirements.lock")
    assert len(SBOM["components"]) == len(listed)


def test_bill_of_materials_is_what_the_lock_gives_whoever_makes_it() -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(FOLDER / "sbom.py"), "--check"],
        capture_output=True, text=True, check=False, cwd="/", env={"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), "make sbom"


def test_everything_listed_is_there_for_a_reason() -> None:
    """From the project, each package is reached through those that want it."""
    wants = {each["ref"]: each["dependsOn"] for each in SBOM["dependencies"]}
    root = SBOM["metadata"]["component"]["bom-ref"]
    assert wants.keys() == {root, *(each["bom-ref"] for each in SBOM["components"])}
    reached, fresh = set(), {root}
    while fresh:
        reached |= fresh
        fresh = {wanted for each in fresh for wanted in wants[each]} - reached
    assert reached == wants.keys()


def test_bill_of_materials_has_the_form_of_cyclonedx() -> None:
    assert (SBOM["bomFormat"], SBOM["specVersion"], SBOM["version"]) == ("CycloneDX", "1.6", 1)
    assert SBOM["serialNumber"].startswith("urn:uuid:")
    assert "timestamp" not in SBOM["metadata"]
    for each in SBOM["components"]:
        assert each["bom-ref"] == each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"


FOUND = '{"dependencies": [{"name": "a", "version": "1", "vulns": []}], "fixes": []}'
VULNERABLE = '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-2026-1"}]}], "fixes": []}'
EMPTY = '{"dependencies": [], "fixes": []}'


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (f"echo '{FOUND}' > $out", 0, "1 packages, no known vulnerability"),
        (f"echo '{VULNERABLE}' > $out; exit 1", 1, "VULNERABLE: deploy/image/requirements.lock"),
        ("echo 'could not connect' >&2; exit 1", 1, "NOT AUDITED: deploy/image/requirements.lock"),
        (f"echo '{EMPTY}' > $out", 1, "NOT AUDITED: deploy/image/requirements.lock"),
    ],
    ids=["sound", "vulnerable", "unreachable", "asked about nothing"],
)
def test_audit_passes_only_where_it_has_asked(tmp_path: Path, answer: str, code: int, said: str) -> None:
    program = tmp_path / "pip-audit"
    program.write_text(f'#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = --output ] && out=$2; shift; done\n{answer}\n')
    program.chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy/image/audit.sh"],
        capture_output=True, text=True, check=False, env={**os.environ, "PIP_AUDIT": str(program)},
    )  # fmt: skip
    assert done.returncode == code
    assert said in done.stdout + done.stderr
    assert ("NOT AUDITED" in done.stderr) == ("NOT AUDITED" in said)

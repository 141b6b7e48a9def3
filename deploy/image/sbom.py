"""The image's bill of materials, CycloneDX 1.6, from its lock: `make sbom`.

    python3 deploy/image/sbom.py              # writes deploy/image/sbom.cdx.json
    python3 deploy/image/sbom.py --check      # exit code 1 where that file is not what it would write

It says nothing of the moment or the machine: the same lock gives the same bytes.  The hashes of all files are in
the lock, whose own hash is in here.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy/image/requirements.lock"
SBOM = ROOT / "deploy/image/sbom.cdx.json"
PACKAGE = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>[\w.+!-]+)(?: *; *(?P<marker>.+?))? *\\?$")


class Locked(NamedTuple):
    """One package of a lock."""

    name: str
    version: str
    marker: str  # where it is installed; empty: everywhere
    wanted_by: list[str]  # names; that of the project among them

    @property
    def purl(self) -> str:
        """What it is called everywhere."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read_lock(text: str) -> list[Locked]:
    """The packages of a lock as uv writes it, in its order.  Raises ValueError for a line of another form."""
    found: list[Locked] = []
    for line in text.splitlines():
        if (package := PACKAGE.match(line)) is not None:
            found.append(Locked(package["name"], package["version"], package["marker"] or "", []))
        elif (comment := re.match(r" +# +(?:via +)?(.*)", line)) is not None:
            if comment[1] not in ("", "via"):
                found[-1].wanted_by.append(comment[1].removesuffix(" (pyproject.toml)"))
        elif line and not line.startswith(("#", "    --hash=sha256:")):
            raise ValueError(f"not a line of a lock: {line}")
    return found


def bill_of(packages: list[Locked], digest: str, version: str) -> dict[str, Any]:
    """The bill of materials; `digest` names the lock."""
    root = f"pkg:pypi/splitlane@{version}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'{root}#{digest}')}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application", "bom-ref": root, "name": "splitlane", "version": version, "purl": root,
            },
            "properties": [{"name": "splitlane:lock:sha256", "value": digest}],
        },
        "components": list(map(_component, packages)),
        "dependencies": list(_dependencies(root, packages)),
    }  # fmt: skip


def _component(package: Locked) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": package.purl,
        "name": package.name,
        "version": package.version,
        "scope": "optional" if package.marker else "required",
        "purl": package.purl,
    }
    if package.marker:
        component["properties"] = [{"name": "splitlane:marker", "value": package.marker}]
    return component


def _dependencies(root: str, packages: list[Locked]) -> Iterator[dict[str, Any]]:
    for name, reference in [("splitlane", root), *((package.name, package.purl) for package in packages)]:
        yield {"ref": reference, "dependsOn": [each.purl for each in packages if name in each.wanted_by]}


def render() -> str:
    """The file's text."""
    text = LOCK.read_text("utf-8")
    version = re.search(r'__version__ = "(.+?)"', (ROOT / "proxy/__init__.py").read_text("utf-8"))
    assert version is not None
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(bill_of(read_lock(text), digest, version[1]), indent=1) + "\n"


def main() -> int:
    """Write the file, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the file is another")
    if not parser.parse_args().check:
        SBOM.write_text(render(), "utf-8")
        return 0
    current = SBOM.exists() and SBOM.read_text("utf-8") == render()
    if not current:
        print("deploy/image/sbom.cdx.json is not of deploy/image/requirements.lock: make sbom", file=sys.stderr)
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())

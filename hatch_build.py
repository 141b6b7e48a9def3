"""Compile the request path when a wheel is built.

The modules named in pyproject.toml are ordinary typed Python.  A wheel carries them compiled by mypyc,
which takes four ninths off the processor time of a request; their sources stay beside them, so that
tracebacks show lines.  An editable install compiles nothing: what is edited is what runs.

`SPLITLANE_PURE=1` builds a wheel of Python alone, for machines without a C compiler.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SETUP = """
from mypyc.build import mypycify
from setuptools import setup

setup(name="splitlane", packages=[], ext_modules=mypycify({arguments!r}, opt_level="2", debug_level="0"))
"""
# The compiled functions call each other directly, and Python's without a detour: 5 to 6 % of a request's processor
# time.  Otherwise each call is looked up in a table, should another library have a function of that name.
_LINUX_CFLAGS = "-fvisibility=hidden -fno-plt"
# The same everywhere: of what the package imports nothing is looked at, whether it is installed or not; its
# types were checked before.  A class whose base is not known then would be laid out wrongly, and crash at
# some later time: it fails the build.
_MYPY = ("--no-site-packages", "--ignore-missing-imports", "--disallow-subclassing-any", "--no-warn-unused-ignores")
_NEEDED = (
    "the request path could not be compiled.  It takes a C compiler and Python's headers "
    "(Debian: gcc and python3-dev); SPLITLANE_PURE=1 builds without, and runs slower."
)


class CompileHook(BuildHookInterface):
    """Hatchling's `custom` build hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel.  Raises RuntimeError where they cannot be compiled."""
        if version == "editable" or os.environ.get("SPLITLANE_PURE"):
            return
        root = Path(self.root)
        modules = [str(file.relative_to(root)) for pattern in self.config["modules"] for file in root.glob(pattern)]
        with tempfile.TemporaryDirectory() as folder:
            # In a copy: mypy reads the whole package, and nothing is left in the checkout.
            shutil.copytree(root / "proxy", Path(folder, "proxy"), ignore=shutil.ignore_patterns("__pycache__"))
            Path(folder, "setup.py").write_text(_SETUP.format(arguments=[*_MYPY, *sorted(modules)]))
            built = subprocess.run(
                [sys.executable, "setup.py", "build_ext", "--build-lib", "built"],
                cwd=folder, env=_environment(), capture_output=True, text=True, check=False,
            )  # fmt: skip
            if built.returncode:
                raise RuntimeError(f"{built.stdout}{built.stderr}\n{_NEEDED}")
            compiled = root / "build" / "compiled"
            shutil.rmtree(compiled, ignore_errors=True)
            shutil.copytree(Path(folder, "built"), compiled)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"].update(
            {str(file): str(file.relative_to(compiled)) for file in compiled.rglob("*.so")}
        )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        shutil.rmtree(Path(self.root, "build", "compiled"), ignore_errors=True)


def _environment() -> dict[str, str]:
    """The compiler's; the user's own flags come last."""
    if sys.platform != "linux":
        return dict(os.environ)
    return {**os.environ, "CFLAGS": f"{_LINUX_CFLAGS} {os.environ.get('CFLAGS', '')}"}

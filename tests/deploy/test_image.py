"""The Dockerfile and its lock files.  The whole build is `make rehearse`, which takes minutes."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import proxy
from tests.deploy.programs import arguments, installed
from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDER = ROOT / "deploy/image"


def rehearsal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rehearse", FOLDER / "rehearse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REHEARSE = rehearsal()
LINES: list[tuple[str, str]] = list(REHEARSE.instructions((ROOT / "Dockerfile").read_text()))
SHIPPED = dict(LINES[max(number for number, (word, _) in enumerate(LINES) if word == "FROM") :])


def locked(name: str) -> dict[str, str]:
    """Name and version of all that a lock file has; every one of them has hashes."""
    text = (FOLDER / name).read_text()
    entries = re.split(r"\n(?=[a-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).strip())
    found = [re.match(r"([\w.-]+)==([\w.]+)[^\n]*(\\\n +--hash=sha256:[0-9a-f]{64}[^\n]*)+", each) for each in entries]
    assert all(found), [entry for entry, each in zip(entries, found, strict=True) if not each]
    return {canonicalize_name(each[1]): each[2] for each in found if each}


def assert_covered(requirements: list[str], lock: dict[str, str]) -> None:
    for requirement in map(Requirement, requirements):
        version = lock.get(canonicalize_name(requirement.name))
        assert version is not None, f"make lock: {requirement.name} is not locked"
        assert requirement.specifier.contains(version), f"make lock: {requirement} is locked at {version}"


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [installed("hadolint"), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_lock_files_have_what_the_project_needs() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert_covered(
        [*PROJECT["project"]["dependencies"], *extras["otel"], *extras["postgres"]], locked("requirements.lock")
    )
    assert_covered(PROJECT["build-system"]["requires"], locked("build.lock"))


def test_every_installation_is_by_hash_or_of_the_built_wheel() -> None:
    commands = [part for word, rest in LINES if word == "RUN" for part in rest.split("&&") if " install " in part]
    assert len(commands) == 3
    assert all("--require-hashes --only-binary :all:" in each or "--no-index --no-deps" in each for each in commands)


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    copied = [path for word, rest in LINES if word == "COPY" and "--from" not in rest for path in rest.split()[:-1]]
    assert {"proxy", "policies", "pyproject.toml"} <= set(copied)
    patterns = REHEARSE.ignore_patterns()
    for path in copied:
        assert (ROOT / path).exists(), path
        assert not REHEARSE.ignored(path, patterns), path
    assert not REHEARSE.ignored("proxy/cli/serve.py", patterns)
    for path in (
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "data/x.db",
        "proxy/__pycache__/x.pyc",
        ".env",
    ):
        assert REHEARSE.ignored(path, patterns), path


def test_stages_are_of_one_python_that_the_project_supports() -> None:
    sources = [rest.split()[0] for word, rest in LINES if word == "FROM"]
    assert sources == ["python:${PYTHON}-trixie", "python:${PYTHON}-slim-trixie"]
    (version,) = (rest.partition("=")[2] for word, rest in LINES[:1])
    assert re.fullmatch(r"3\.\d+", version)
    assert Requirement(f"python{PROJECT['project']['requires-python']}").specifier.contains(version)


def test_image_runs_the_program_as_nobody_and_asks_it() -> None:
    assert SHIPPED["USER"] == "65532:65532"
    assert SHIPPED["STOPSIGNAL"] == "SIGTERM"
    assert SHIPPED["EXPOSE"] == "8080 8081"
    assert SHIPPED["VOLUME"] == SHIPPED["WORKDIR"]
    assert json.loads(SHIPPED["ENTRYPOINT"]) == ["splitlane"]  # the exec form: signals reach it
    (command, *rest) = json.loads(SHIPPED["CMD"])
    arguments(command).parse_args(rest)
    program, command, *rest = json.loads(SHIPPED["HEALTHCHECK"].partition("CMD ")[2])
    assert (program, command) == ("splitlane", "health")
    asked = arguments(command).parse_args(rest)
    assert asked.timeout < float(re.findall(r"--timeout=(\d+)s", SHIPPED["HEALTHCHECK"])[0])


def test_labels_say_which_version_it_is_and_whose() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', SHIPPED["LABEL"]))
    assert labels.keys() == {"title", "description", "version", "source", "documentation"}
    assert labels["version"] == proxy.__version__
    assert labels["description"] == PROJECT["project"]["description"].rstrip(".")
    page = labels["documentation"].partition("/blob/main/")[2]
    assert (ROOT / page).is_file()


def test_proxy_lives_in_a_read_only_tree_without_capabilities_and_ends_in_order() -> None:
    """The image's last stage, with this environment in place of the built one."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    done = subprocess.run(
        [*as_root, sys.executable, str(FOLDER / "rehearse.py"), "--installed"],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "user: 65532 capabilities: 0000000000000000" in done.stdout
    assert "SIGTERM: exit code 0" in done.stdout

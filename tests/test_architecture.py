"""The shape of the package: which way imports point, what stays pure, how long modules are.

DESIGN §2; STYLE 2, 13 and 18.  Everything is read from the source's syntax tree, nothing is imported.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# Top to bottom: a stage imports itself and what stands below it.
STAGES = (
    "cli", "stub", "workers", "listener", "admin", "exchange", "budget", "upstream", "split", "wire", "experiment",
    "ledger", "telemetry", "policy",
)  # fmt: skip
# Below all stages; they import nothing of the proxy.
SHARED = ("ids", "outbox", "tasks", "watchdog", "words")

# The same input gives the same output, wherever and whenever.
PURE = (
    "split", "wire", "policy.snapshot", "policy.moves", "policy.settings", "policy.agent_diff", "policy.diff_text",
    "policy.diff", "experiment.actions", "experiment.bounds", "experiment.cusum", "experiment.evidence",
    "experiment.gates", "experiment.health", "experiment.judge", "experiment.metrics", "experiment.numbers",
    "experiment.ramp", "experiment.ratio", "experiment.reading", "experiment.sample", "experiment.srm",
    "experiment.stage", "experiment.verdict", "ledger.database", "ledger.row", "ledger.schema", "ledger.statements",
    "words",
)  # fmt: skip
# Frozen values that pure modules may take as they are, whatever the reading of them imports.
VALUES = ("policy.config_rollout",)
IMPURE_LIBRARIES = {
    "aiohttp", "asyncio", "datetime", "http", "logging", "os", "pathlib", "random", "secrets", "select",
    "signal", "socket", "ssl", "subprocess", "threading", "time", "uvloop",
}  # fmt: skip

MAX_LINES = 400
MAX_MEDIAN = 150
NAMES_THAT_SAY_NOTHING = re.compile(r"_?(utils?|helpers?|common|misc|stuff|lib|tools|base|managers?)")

# Modules without a test file of their own: what they do shows only between two sockets.
COVERED_BY = {
    "exchange.attempts": "integration/test_retry.py",
    "exchange.call": "integration/test_cost.py",
    "exchange.client": "integration/test_framing.py",
    "exchange.exchange": "integration/test_fallback_reasons.py",
    "exchange.intake": "integration/test_limits.py",
    "exchange.passthrough": "integration/test_wire_passthrough.py",
    "exchange.probes": "integration/test_probes.py",
    "exchange.reply": "integration/test_stream_commit.py",
    "exchange.request": "integration/test_wire_requests.py",
    "exchange.send": "integration/test_stale_connection.py",
    "experiment.full_report": "cli/test_report_verdicts.py",
    "listener.admin": "integration/test_admin.py",
    "listener.alarms": "integration/test_brake.py",
    "exchange.shadow_metrics": "integration/test_shadow.py",
    "listener.connection": "integration/hostile/test_requests.py",
    "listener.export": "integration/test_export.py",
    "listener.listener": "integration/test_connections.py",
    "listener.process": "cli/test_serve.py",
    "listener.peers": "integration/test_trusted_peers.py",
    "listener.policy_metrics": "integration/test_reload.py",
    "listener.request": "integration/test_framing.py",
    "listener.service": "integration/test_drain.py",
    "upstream.connect": "integration/upstream_client/test_names.py",
    "upstream.connection": "integration/upstream_client/test_framing.py",
    "workers.child": "integration/test_workers.py",
    "workers.link": "integration/test_workers.py",
    "workers.tally": "integration/test_workers.py",
}
TESTED_STAGES = ("wire", "split", "upstream", "budget", "exchange", "experiment", "telemetry", "listener", "workers")
# Types and nothing else.
WITHOUT_BEHAVIOUR = ("experiment.evidence", "experiment.verdict")


class Import(NamedTuple):
    line: int
    module: str  # absolute, dotted


class Module(NamedTuple):
    """One file of the package."""

    name: str  # dotted, without `proxy.`; the package itself is empty
    path: Path
    lines: int
    tree: ast.Module

    @property
    def stage(self) -> str:
        return self.name.partition(".")[0]

    def imports(self) -> Iterator[Import]:
        """Every import, also those inside functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: a relative import"
                module = node.module or ""
                # `from proxy import words` names a module, `from proxy import __version__` does not.
                below = {alias.name for alias in node.names if module == "proxy"} & {*STAGES, *SHARED}
                yield Import(node.lineno, module)
                yield from (Import(node.lineno, f"proxy.{name}") for name in below)

    def own_imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name, without `proxy.`, of what is imported of the package."""
        for line, module in self.imports():
            if module.startswith("proxy."):
                yield line, module.removeprefix("proxy.")


def read_module(path: Path) -> Module:
    parts = path.relative_to(ROOT / "proxy").with_suffix("").parts
    text = path.read_text("utf-8")
    return Module(
        ".".join(part for part in parts if part != "__init__"),
        path.relative_to(ROOT),
        len(text.splitlines()),
        ast.parse(text, str(path)),
    )


MODULES = [read_module(path) for path in sorted((ROOT / "proxy").rglob("*.py"))]


def check(complaints: Callable[[Module], Iterator[str]]) -> None:
    """Fail with all that a rule has to say on the modules, one `path:line: words` a line."""
    found = [complaint for module in MODULES for complaint in complaints(module)]
    assert not found, "\n" + "\n".join(found)


def is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


# --- imports ----------------------------------------------------------------------------------------


def test_every_module_belongs_to_a_stage() -> None:
    assert {module.stage for module in MODULES} == {"", "__main__", *STAGES, *SHARED}


def test_imports_point_down() -> None:
    order = {name: level for level, name in enumerate(STAGES)} | dict.fromkeys(SHARED, len(STAGES))

    def upward(module: Module) -> Iterator[str]:
        level = order.get(module.stage, -1)  # the package's own two files stand above all
        for line, name in module.own_imports():
            stage = name.partition(".")[0]
            if stage != module.stage and order[stage] <= level:
                yield f"{module.path}:{line}: {module.stage} imports {name}, which does not stand below it"

    check(upward)


def test_stub_imports_nothing_of_the_proxy_but_what_all_share() -> None:
    def foreign(module: Module) -> Iterator[str]:
        for line, name in module.own_imports():
            if module.stage == "stub" and not is_in(name, ("stub", "words", "tasks")):
                yield f"{module.path}:{line}: the stub imports {name}: it must not share a bug with the proxy"

    check(foreign)


@pytest.mark.parametrize("package", PURE)
def test_pure_package_imports_no_clock_no_chance_no_loop_and_only_pure_modules(package: str) -> None:
    def impure(module: Module) -> Iterator[str]:
        if is_in(module.name, (package,)):
            for line, name in module.imports():
                if name.partition(".")[0] in IMPURE_LIBRARIES:
                    yield f"{module.path}:{line}: pure, but imports {name}"
            for line, name in module.own_imports():
                if not is_in(name, (*PURE, *VALUES)):
                    yield f"{module.path}:{line}: pure, but imports proxy.{name}, which is not"

    assert any(is_in(module.name, (package,)) for module in MODULES)
    check(impure)


def test_tasks_are_started_in_one_place() -> None:
    def started(module: Module) -> Iterator[str]:
        names = [node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute | ast.Name)]
        for node in names if module.name != "tasks" else []:
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            if name in {"create_task", "ensure_future"}:
                yield f"{module.path}:{node.lineno}: {name}, not tasks.spawn, which names and keeps the task"

    check(started)


# --- modules ----------------------------------------------------------------------------------------


def test_no_module_is_long_and_most_are_short() -> None:
    def long(module: Module) -> Iterator[str]:
        if module.lines > MAX_LINES:
            yield f"{module.path}: {module.lines} lines, more than {MAX_LINES}"

    check(long)
    middle = median(module.lines for module in MODULES if module.tree.body[1:])
    assert middle <= MAX_MEDIAN, f"the median module has {middle} lines, more than {MAX_MEDIAN}"


def test_every_module_name_says_something() -> None:
    def empty(module: Module) -> Iterator[str]:
        for part in module.name.split("."):
            if NAMES_THAT_SAY_NOTHING.fullmatch(part):
                yield f"{module.path}: `{part}` says nothing about what is in it"

    check(empty)


def test_every_module_says_what_it_is() -> None:
    def silent(module: Module) -> Iterator[str]:
        if module.tree.body and not ast.get_docstring(module.tree):
            yield f"{module.path}: no docstring"

    check(silent)


def test_package_docstring_is_the_map_of_the_stages() -> None:
    (package,) = [module for module in MODULES if not module.name]
    docstring = ast.get_docstring(package.tree) or ""
    named = re.findall(r"^ {4}(\w+) {2,}\S", docstring, re.MULTILINE)
    assert tuple(name for name in named if name in STAGES) == STAGES
    assert set(named) == {*STAGES, *SHARED}, "the map names what exists, and all of it"
    assert len(docstring.splitlines()) <= 22


# --- tests ------------------------------------------------------------------------------------------


def own_test_files(module: Module) -> list[Path]:
    """`wire.body` is tested by tests/wire/test_body.py and tests/wire/test_body_*.py."""
    folder = ROOT / "tests" / module.stage
    stem = module.name.rpartition(".")[2]
    return [*folder.glob(f"test_{stem}.py"), *folder.glob(f"test_{stem}_*.py")]


def test_every_module_has_its_tests() -> None:
    def untested(module: Module) -> Iterator[str]:
        excused = (*COVERED_BY, *WITHOUT_BEHAVIOUR)
        concerned = module.stage in TESTED_STAGES and module.tree.body[1:] and module.name not in excused
        if concerned and not own_test_files(module):
            yield f"{module.path}: no test file of its own, and not in COVERED_BY"

    check(untested)


@pytest.mark.parametrize("name", COVERED_BY)
def test_table_of_covering_tests_is_true(name: str) -> None:
    (module,) = [module for module in MODULES if module.name == name]
    assert not own_test_files(module), f"{name} has tests of its own: take it off the table"
    tests = ROOT / "tests" / COVERED_BY[name]
    assert "def test_" in tests.read_text("utf-8")


def test_constants_of_compiled_modules_are_final() -> None:
    """Any other global is looked up by name, in a dict, each time a compiled function reads it."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    compiled = [file for pattern in hook["custom"]["modules"] for file in ROOT.glob(pattern)]
    assert len(compiled) > 40
    plain = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in compiled
        for node in ast.parse(file.read_text()).body
        if (isinstance(node, ast.Assign) and not _names_a_type(node))
        or (isinstance(node, ast.AnnAssign) and node.value is not None and "Final" not in ast.unparse(node.annotation))
    ]
    assert plain == []


def _names_a_type(node: ast.Assign) -> bool:
    (target,) = node.targets
    alias = isinstance(node.value, ast.Subscript | ast.BinOp)
    return alias and isinstance(target, ast.Name) and target.id != target.id.upper()

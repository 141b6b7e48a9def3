"""The documentation's facts are the program's: words, statuses, headers, metrics, options, paths."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import proxy
from proxy.exchange.classify import BREAKING
from proxy.ledger.standing import Standing
from proxy.policy.units import parse_duration, parse_size
from proxy.stub import Stub, StubConfig
from proxy.stub.faults import parse_fault
from proxy.upstream import dialect
from proxy.wire.errors import failure_answer
from proxy.words import Dialect, Failure
from tests.docs.pages import PAGES, ROOT, anchors, bare, blocks, help_of, links, prose_of, rows, section, spans, text_of
from tests.support.budgets import budgeted
from tests.support.lane import FINETUNED_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request

ARCHITECTURE = "docs/architecture.md"
INTEGRATION = "docs/integration.md"
OBSERVABILITY = "docs/observability.md"
README = "README.md"

OURS = re.compile(r"x-splitlane-[a-z-]*[a-z]")
METRIC = re.compile(r"\b(?:splitlane_[a-z_]+|model_[a-z_]+_(?:total|seconds))\b")
# Files a reader is told to look at, and folders of them.
MENTIONED = re.compile(r"(?:proxy|policies|tests|bench|docs|deploy)/[\w./-]*")


# --- failures and errors ----------------------------------------------------------------------


def test_failure_vocabulary_is_the_programs() -> None:
    rescued = policy_of("http://127.0.0.1:1").fallback.on
    documented = {
        bare(word): (int(status), rescue == "yes", breaker == "yes")
        for word, _, status, rescue, breaker in rows(section(ARCHITECTURE, "Failure vocabulary"), "word")
    }
    assert documented == {
        str(failure): (failure_answer(failure).status, failure in rescued, failure in BREAKING) for failure in Failure
    }


def test_codes_of_our_own_refusals_are_the_programs() -> None:
    documented = {
        (bare(code), int(status)) for code, status, _ in rows(section(ARCHITECTURE, "Failure vocabulary"), "code")
    }
    admin = {
        (bare(code), int(status))
        for code, status, _ in rows(section(ARCHITECTURE, "The client's connection"), "admin code")
    }
    assert not documented & admin
    assert documented | admin == refusals()


def refusals() -> set[tuple[str, int]]:
    """Code and status of every error that the source spells out; those of failures have a table of their own."""
    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        if "stub" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            arguments: dict[str, Any] = {str(each.arg): each.value for each in node.keywords}
            names = {"bad_request": ("message", "code", "status"), "ErrorAnswer": ("status", "kind", "code")}
            arguments |= dict(zip(names.get(node.func.id, ()), node.args, strict=False))
            code, status = arguments.get("code"), arguments.get("status")
            if node.func.id == "bad_request":
                code, status = code or ast.Constant("bad_request"), status or ast.Constant(400)
            elif node.func.id != "ErrorAnswer":
                continue
            if isinstance(code, ast.Constant) and isinstance(status, ast.Constant):
                found.add((str(code.value), int(str(status.value))))
    return found


# --- headers and metrics ----------------------------------------------------------------------


async def rescued_answer(lane: Lane) -> RawResponse:
    """An answer with every header of ours: the fine-tune fails, a field is dropped."""
    body = b'{"model":"m","user":"x","messages":[{"role":"user","content":"hi"}]}'
    fields = [("X-Agent", "qa_agent"), ("X-User-Id", FINETUNED_USER), ("x-stub-fault", "model=ft:*,status=500")]
    async with RawClient(lane.host, lane.port) as client:
        await client.send(request("POST", "/v1/chat/completions", body, fields))
        return await client.read_response()


async def live() -> tuple[set[str], dict[str, tuple[str, set[str]]]]:
    """Our response headers, and each metric's type and labels, as a running proxy has them."""
    mistral = {"up": {"dialect": "mistral"}}
    spent = {"daily_usd": 1e-9, "on_exceeded": "warn"}
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub,
        running(
            budgeted(
                stub.url,
                spent,
                upstreams=mistral,
                agents={"qa_agent": {"shadow": {"percentage": 1}}},
                observability={"probe": {"every": "1h"}},
            )
        ) as lane,
    ):
        await rescued_answer(lane)
        answer = await rescued_answer(lane)
        (agent,) = lane.service.exchange.policy.agents.values()
        lane.service.ledger.standing = Standing({}, {}, {(agent.name, agent.salt): 1.0})  # a controller has looked
        failing = request("POST", "/v1/chat/completions", b"[]", [("X-Agent", "qa_agent")])
        async with RawClient(lane.host, lane.port) as client:
            await client.send(failing)
            assert (await client.read_response()).status == 400
        async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
            await client.send(request("GET", "/metrics"))
            text = (await client.read_response()).body.decode()
    headers = {name.decode().lower() for name, _ in answer.headers if name.lower().startswith(b"x-splitlane-")}
    metrics = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels}
        assert family.samples, f"{name} has no series: its labels cannot be seen"
        metrics[name] = (family.type, labels - {"le"})
    return headers, metrics


async def test_response_headers_are_those_of_a_live_answer() -> None:
    headers, _ = await live()
    for page, heading in ((README, "Point a client at it"), (INTEGRATION, "What is changed in a response")):
        assert {bare(row[0]) for row in rows(section(page, heading), "header")} == headers
    mentioned = {name for page in PAGES for name in OURS.findall(text_of(page))}
    assert mentioned - {"x-splitlane-variant"} <= headers


async def test_metrics_are_those_of_a_live_scrape() -> None:
    _, metrics = await live()
    documented = {
        bare(name): (kind, set() if labels == "–" else set(labels.split(", ")))
        for name, kind, labels, *_ in rows(section(OBSERVABILITY, "Metrics"), "metric")
    }
    assert documented == metrics
    for page in PAGES:
        named = {re.sub("_(bucket|sum|count)$", "", name) for name in METRIC.findall(text_of(page))}
        assert named <= metrics.keys(), page
    for name, *_, meaning, action in rows(section(OBSERVABILITY, "Metrics"), "metric"):
        assert meaning, name
        assert len(action.split()) >= 2, f"{name}: what to do when it moves"


async def test_admin_routes_are_the_programs() -> None:
    documented = {bare(row[0]) for row in rows(section(ARCHITECTURE, "The client's connection"), "route")}
    source = (ROOT / "proxy/admin/app.py").read_text()
    assert documented == {
        f"{method.upper()} {path}" for method, path in re.findall(r'add_(get|post)\("([^"]+)"', source)
    }
    # Without what they need.
    bare_answers = {
        "POST /policy/reload": 401, "POST /rollout/clear": 401, "GET /assign": 400, "GET /health/{agent}": 404,
        "GET /nothing": 404, "GET /dashboard/{file}": 404, "GET /dashboard/events": 406,
        **dict.fromkeys((f"POST /rollout/{order}" for order in ("advance", "pause", "resume", "rollback")), 401),
        **dict.fromkeys(("GET /report", "GET /report.json", "GET /report.md"), 503),
    }  # fmt: skip
    async with running(policy_of("http://127.0.0.1:1")) as lane:
        for route in documented | bare_answers.keys():
            async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
                method, path = route.split()
                await client.send(request(method, path))
                assert (await client.read_response()).status == bare_answers.get(route, 200), route


# --- tables taken from the source -------------------------------------------------------------


def test_dialect_table_is_the_programs() -> None:
    documented: dict[Dialect, dict[str, str]] = {Dialect.MISTRAL: {}, Dialect.OPENAI: {}}
    for name, *cells in rows(section(INTEGRATION, "Dialect fields"), "field"):
        for vendor, cell in zip(documented, cells, strict=True):
            if cell != "–":
                documented[vendor][bare(name)] = cell
    assert documented == {
        vendor: {
            **dict.fromkeys(dialect._REFUSED[vendor], "dropped"),
            **{old: f"renamed to `{new}`" for old, new in dialect._RENAMED[vendor].items()},
        }
        for vendor in Dialect
    }


@pytest.mark.parametrize("row", rows(section(ARCHITECTURE, "Limits"), "limit"), ids=lambda row: row[0])
def test_limit_is_the_programs(row: list[str]) -> None:
    if len(row) == 3:
        return  # set in the policy: the policy's page has the defaults
    _, value, where, _ = row
    constant, path = spans_of(where)
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert getattr(module, constant) == number_of(value)


def test_configurable_limits_are_the_defaults() -> None:
    policy = policy_of("http://127.0.0.1:1")
    known = {f"limits.{name}": getattr(policy.limits, name) for name in policy.limits.__slots__}
    known["upstreams.NAME.pool.max_connections"] = policy.default_upstream.pool.max_connections
    documented = {bare(row[0]): row[1] for row in rows(section(ARCHITECTURE, "Limits"), "limit") if len(row) == 3}
    del documented["upstreams.NAME.timeouts"]  # several at once
    assert {name: number_of(value) for name, value in documented.items()} == {name: known[name] for name in documented}


def spans_of(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def number_of(value: str) -> float:
    if value.isdecimal():
        return int(value)
    return parse_size(value) if value.endswith("B") else parse_duration(value)


# --- the command line -------------------------------------------------------------------------


def code_of(page: str) -> list[str]:
    """All lines of code of a page: in blocks and in spans."""
    fenced = "\n".join(block.text for language in ("bash", "text", "yaml", "") for block in blocks(language, page))
    return [*fenced.splitlines(), *spans(page)]


def test_every_command_and_option_mentioned_exists() -> None:
    commands = set(re.findall(r"^    ([a-z]+) ", help_of(), re.MULTILINE))
    seen = set()
    for page in PAGES:
        for line in code_of(page):
            for found in re.finditer(r"(?:^|[\s\[])splitlane,? ([a-z]+)\b([^#]*)", line):
                command, rest = found.groups()
                assert command in commands, f"{page}: {line}"
                seen.add(command)
                for option in re.findall(r"--[a-z-]+", rest):
                    assert option in help_of(command), f"{page}: {line}"
            if option_alone := re.fullmatch(r"(--[a-z-]+)( .*)?", line):
                assert any(option_alone[1] in help_of(each) for each in commands), f"{page}: {line}"
    assert seen == commands


def test_every_make_target_mentioned_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = {found for page in PAGES for line in code_of(page) for found in re.findall(r"^make (\w+)", line)}
    assert {"demo", "test"} <= mentioned <= targets


def test_every_fault_mentioned_can_be_read() -> None:
    specs = [spec for page in PAGES for spec in re.findall(r"x-stub-fault: ([^'\"]+)['\"]", text_of(page))]
    assert len(specs) >= 4
    for spec in specs:
        parse_fault(spec)


# --- paths and links --------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_every_file_mentioned_exists(page: str) -> None:
    for span in spans(page):
        if MENTIONED.fullmatch(span):
            assert (ROOT / span).exists(), f"{page} mentions {span}"


def test_every_stage_of_the_package_is_on_the_map() -> None:
    documented = {name for row in rows(section(ARCHITECTURE, "Layout"), "stage") for name in spans_of(row[0])}
    entries = [each for each in (ROOT / "proxy").iterdir() if each.name not in ("__init__.py", "__main__.py")]
    folders = {f"proxy/{each.name}/" for each in entries if (each / "__init__.py").is_file()}
    assert documented == folders | {f"proxy/{each.name}" for each in entries if each.suffix == ".py"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        if link.page:
            assert (ROOT / link.page).is_file(), link
            if link.anchor:
                assert link.anchor in anchors(link.page), link


def test_every_page_is_linked_from_the_readme() -> None:
    linked = {link.page for link in links(README)}
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages == {page for page in PAGES if page.startswith("docs/")}
    assert pages | {"CHANGELOG.md"} <= linked


def test_changelog_has_the_packages_version() -> None:
    assert re.findall(r"^## \[([\d.]+)\]", prose_of("CHANGELOG.md"), re.MULTILINE)[0] == proxy.__version__
    assert f"Version {proxy.__version__}" in text_of(README)


def test_no_page_names_a_path_of_somebodys_machine() -> None:
    for page in PAGES:
        assert not re.search(rf"(?<![\w.]){re.escape(str(Path.home()))}/|/(?:home|opt|work)/\w", text_of(page)), page

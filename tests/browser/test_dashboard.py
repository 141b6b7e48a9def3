"""The dashboard in real headless Chromium, over a real proxy with a filled store."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from proxy.admin import watchers
from proxy.policy.load import read_policy
from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from tests.experiment.ramps import HOUR, fill
from tests.integration.asking import ask, chat
from tests.ledger.records import opened
from tests.support.lane import FINETUNED_USER, TOKEN, Lane, running
from tests.support.programs import program
from tests.support.served import write_policy

pytestmark = pytest.mark.alone  # a browser is many processes

T = TypeVar("T")

HOSTILE = "<img src=x onerror=alert(1)>"
PHONE, DESK = (390, 844), (1280, 900)
WITH_NAMES = {
    "button",
    "link",
    "textbox",
    "image",
    "DisclosureTriangle",
    "dialog",
    "heading",
    "region",
    "group",
    "list",
}
# Every text with less contrast against what is behind it than WCAG's AA wants.
TOO_FAINT = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (el) => {
    for (; el; el = el.parentElement) {
      const c = parse(getComputedStyle(el).backgroundColor);
      if (c.length < 4 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll("body *")]
    .filter((el) => el.checkVisibility() && !el.disabled)
    .filter((el) => [...el.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((el) => {
      const [a, b] = [light(parse(getComputedStyle(el).color)), light(behind(el))];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    })
    .map((el) => `${el.tagName}.${el.className}: ${el.textContent.slice(0, 40)}`);
}"""


class World:
    """A stub and a proxy in a thread of their own, for a browser in this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run)
        self.lane: Lane | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(20)
        assert self.lane is not None
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        assert self.lane is not None
        return self.lane.admin_url

    def do(self, work: Callable[[Lane], Coroutine[Any, Any, T]]) -> T:
        assert self._loop is not None
        assert self.lane is not None
        return asyncio.run_coroutine_threadsafe(work(self.lane), self._loop).result(10)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with Stub() as stub:
            path = _policy(self._folder, stub.url)
            async with running(PolicyStore(path, {})) as self.lane:
                self._ready.set()
                await self._end.wait()


def _policy(folder: Path, upstream: str) -> Path:
    """One agent in a young stage, one that may start, and one whose model nobody should call so."""
    store = f"sqlite:///{folder}/s.db"
    step = {"soak": "1h", "min": {"users": 20, "requests": 100}}
    off = dict.fromkeys(("first_attempt", "fallback_rate", "latency_p95", "latency_mean", "cost", "feedback"))
    success = {"kind": "guardrail", "margin": "-20pp", "min": {"users": 10, "events": 0}}
    names = {"qa_agent": (50, "ft:m"), "legal_agent": (0, "ft:l"), "odd.agent": (10, HOSTILE)}
    path = write_policy(
        folder,
        upstream,
        agents={
            name: {"fine_tuned": model, "fallback": "m", "rollout_percentage": percentage, "budgets": {"daily_usd": 5}}
            for name, (percentage, model) in names.items()
        },
        rollout={"steps": [{"percent": 50, **step}, {"percent": 100, **step}], "gates": {"success": success, **off}},
        budgets={"daily_usd": 9},
        store={"url": store, "unit_key": "0123456789abcdef0123456789abcdef"},
    )
    agent = read_policy(path, {}).policy.agents[b"qa_agent"]
    with opened(store) as database:
        fill(database, 50, begin=time.time() - HOUR / 2, salt=agent.salt)
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, World(tmp_path_factory.mktemp("world")) as world:
        patch.setattr(watchers, "EVERY", 0.2)
        yield world


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all; as root, which it is in a container, it has no sandbox."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium", "chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, world: World) -> Iterator[Page]:
    """The page with verdicts, in a context of its own; whatever it complains of, or asks of others, is an error."""
    context = browser.new_context(viewport={"width": DESK[0], "height": DESK[1]})
    context.set_default_timeout(10_000)
    page = context.new_page()
    complaints: list[str] = []
    asked: list[Request] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    page.on("request", lambda request: asked.append(request))
    page.goto(world.url)
    page.wait_for_selector(".recommendation", timeout=30_000)
    yield page
    expected = [each for each in complaints if "status of 409" in each or "status of 401" in each]  # Chromium's own
    assert [each for each in complaints if each not in expected] == []
    assert {each.url.split("/", 3)[2] for each in asked} == {world.url.removeprefix("http://")}
    assert not [each.url for each in asked if TOKEN in each.url]
    context.close()


def agent(page: Page, name: str = "qa_agent") -> Any:
    return page.locator(f"[id='agent-{name}']")


def unlock(page: Page, token: str = TOKEN) -> None:
    page.get_by_role("button", name="Unlock actions").click()
    page.get_by_label("Admin token").fill(token)
    page.keyboard.press("Enter")


def test_page_shows_every_agent_with_its_verdict_and_follows_what_is_served(page: Page, world: World) -> None:
    expect(page).to_have_title("Splitlane · test")
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.locator(".agent h2")).to_have_text(["legal_agent", "odd.agent", "qa_agent"])
    expect(agent(page, "odd.agent").locator(".models")).to_contain_text(HOSTILE)
    expect(agent(page).locator(".recommendation")).to_contain_text("Hold: 30 minutes more")
    expect(agent(page).locator("[aria-current=step]")).to_contain_text("50 %")
    expect(agent(page).get_by_role("columnheader", name="Last 24 hours, as of")).to_be_visible()
    expect(agent(page).get_by_role("img", name="Success: worse by")).to_have_count(1)
    before = agent(page).locator(".now tbody tr").first.locator("td").first.inner_text()

    async def served(lane: Lane) -> None:
        for _ in range(3):
            assert (await ask(lane, chat(user=FINETUNED_USER))).status == 200

    world.do(served)
    expect(agent(page).locator(".now tbody tr").first.locator("td").first).to_have_text(str(int(before) + 3))


def test_ramp_is_moved_without_a_mouse(page: Page) -> None:
    def focused() -> str:
        return str(page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id"))

    for _ in range(40):
        page.keyboard.press("Tab")
        if focused() == "Advance legal_agent":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    assert focused() == "token"
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Advance legal_agent to 50 %?")).to_be_visible()
    assert focused() == "ask-yes"
    page.keyboard.press("Enter")
    expect(page.locator("#outcome")).to_have_text("legal_agent: 0 % → 50 %.", timeout=20_000)
    expect(agent(page, "legal_agent").locator("[aria-current=step]")).to_contain_text("50 %")
    expect(agent(page, "legal_agent").locator(".decisions")).to_contain_text("advance at 0 % → 50 %", timeout=20_000)
    assert page.evaluate("Object.keys(localStorage).length") == 0
    page.get_by_role("button", name="Lock actions").press("Enter")
    assert page.evaluate("sessionStorage.length") == 0


def test_refused_order_shows_what_stands_against_it_and_a_wrong_token_is_told(page: Page) -> None:
    unlock(page, "wrong")
    advance = page.get_by_role("button", name="Advance qa_agent")
    advance.click()
    page.locator("#ask-yes").click()
    expect(page.get_by_role("alert")).to_contain_text("does not take this token")
    page.keyboard.press("Escape")
    unlock(page)
    advance.click()
    page.locator("#ask-yes").click()
    expect(page.get_by_role("alert")).to_contain_text("Refused, and nothing was changed", timeout=20_000)
    expect(page.get_by_role("alert")).to_contain_text("SOAK 0.5 h of 1.0 h")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(advance).to_be_focused()
    expect(agent(page).locator("[aria-current=step]")).to_contain_text("50 %")


def test_every_control_and_picture_has_a_name(page: Page) -> None:
    agent(page).get_by_role("button", name="Pause").click()
    page.keyboard.press("Escape")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in tree if not node["ignored"]]
    found = {node["role"]["value"] for node in shown}
    assert {"button", "image", "heading", "table", "main", "DisclosureTriangle"} <= found, found
    nameless = [
        node for node in shown
        if node["role"]["value"] in WITH_NAMES - {"list", "group"} and not node.get("name", {}).get("value", "").strip()
    ]  # fmt: skip
    assert not nameless, json.dumps(nameless[:3])
    agent(page).get_by_role("button", name="Pause").click()
    expect(page.get_by_role("textbox", name="Admin token")).to_be_visible()


def test_page_fits_phone_and_desk_and_is_readable_in_light_and_dark(page: Page) -> None:
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.querySelector('summary'), '::before').transitionDuration") == "0s"
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        for width, height in (PHONE, DESK):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(TOO_FAINT) == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
        assert (max(ground) < 60) == (scheme == "dark")

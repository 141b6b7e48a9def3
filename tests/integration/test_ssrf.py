"""ACCEPTANCE 36: the upstream is only ever the policy's, whatever a target, a Host or a redirect says."""

import pytest

from proxy.stub import Stub
from tests.integration.asking import ANSWER, ask, chat, error_of
from tests.support.lane import BASELINE, FINETUNED, policy_of, running
from tests.support.raw_client import request
from tests.support.raw_upstream import RawUpstream, Read, Send, response

ADMIN_ROUTES = [
    "/livez",
    "/readyz",
    "/health",
    "/health/qa_agent",
    "/metrics",
    "/policy",
    "/policy/reload",
    "/assign?agent=qa_agent&user=1",
    "/report",
    "/report.json",
    "/",
]


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("http://{elsewhere}/v1/models?a=b", b"/v1/models?a=b"),
        ("HTTP://{elsewhere}/v1/models", b"/v1/models"),
        ("https://user:word@{elsewhere}/v1/models", b"/v1/models"),
        ("http://{elsewhere}//v1", b"//v1"),
        ("//{elsewhere}/v1/models", b"//{elsewhere}/v1/models"),
        ("/http://{elsewhere}/v1", b"/http://{elsewhere}/v1"),
        ("/@{elsewhere}/v1", b"/@{elsewhere}/v1"),
        ("/\\{elsewhere}/v1", b"/\\{elsewhere}/v1"),
        ("/agents/x/http://{elsewhere}/v1", b"/http://{elsewhere}/v1"),
        ("/agents/x//{elsewhere}/v1", b"//{elsewhere}/v1"),
    ],
)
async def test_target_never_chooses_the_upstream(target: str, seen: bytes) -> None:
    """ACCEPTANCE 36."""
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        RawUpstream([Read(), Send(ANSWER)]) as elsewhere,
        running(policy_of(up.url)) as lane,
    ):
        there = f"{elsewhere.host}:{elsewhere.port}"
        answer = await ask(lane, request("GET", target.replace("{elsewhere}", there), host=there))
        assert answer.status == 200
        assert elsewhere.connections == []
        (sent,) = up.requests
        assert sent.split(b" ")[1] == seen.replace(b"{elsewhere}", there.encode())
        assert sent.split(b"\r\n")[1] == f"Host: {up.host}:{up.port}".encode()


@pytest.mark.parametrize(
    "fields",
    [
        [
            ("X-Forwarded-Host", "{elsewhere}"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "host={elsewhere}"),
        ],
        [("X-Original-URL", "http://{elsewhere}/"), ("X-Rewrite-URL", "http://{elsewhere}/")],
        [("X-Host", "{elsewhere}"), ("Proxy-Connection", "keep-alive"), ("X-Upstream", "{elsewhere}")],
        [("Connection", "Host")],
    ],
)
async def test_host_tricks_do_not_choose_the_upstream(fields: list[tuple[str, str]]) -> None:
    """ACCEPTANCE 36."""
    async with (
        RawUpstream([Read(), Send(ANSWER)]) as up,
        RawUpstream([Read(), Send(ANSWER)]) as elsewhere,
        running(policy_of(up.url)) as lane,
    ):
        there = f"{elsewhere.host}:{elsewhere.port}"
        tricks = [(name, value.replace("{elsewhere}", there)) for name, value in fields]
        assert (await ask(lane, chat(headers=tricks))).status == 200
        assert elsewhere.connections == []
        (sent,) = up.requests
        assert sent.lower().count(b"\r\nhost:") == 1
        assert f"\r\nHost: {up.host}:{up.port}\r\n".encode() in sent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_passed_on_and_not_followed(status: int) -> None:
    """ACCEPTANCE 36."""
    async with RawUpstream([Read(), Send(ANSWER)]) as elsewhere:
        moved = response(b"moved", status, [("location", f"{elsewhere.url}/v1/models")])
        async with RawUpstream([Read(), Send(moved)]) as up, running(policy_of(up.url)) as lane:
            answer = await ask(lane, request("GET", "/v1/models"))
        assert (answer.status, answer.body) == (status, b"moved")
        assert answer.head.get(b"location") == f"{elsewhere.url}/v1/models".encode()
        assert elsewhere.connections == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_fine_tune_that_redirects_is_answered_by_the_baseline(status: int) -> None:
    """ACCEPTANCE 36."""
    async with RawUpstream([Read(), Send(ANSWER)]) as elsewhere:
        moved = response(b"", status, [("location", elsewhere.url)])

        async with (
            RawUpstream([Read(), Send(moved), Read(), Send(ANSWER)]) as up,
            running(policy_of(up.url)) as lane,
        ):
            answer = await ask(lane, chat())
            assert answer.status == 200
            assert (await lane.record()).fallback == "bad_body"
        assert elsewhere.connections == []
        assert [model.encode() in sent for model, sent in zip((FINETUNED, BASELINE), up.requests, strict=True)]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", ADMIN_ROUTES)
async def test_admin_route_on_the_data_port_is_the_upstreams_business(method: str, target: str) -> None:
    """ACCEPTANCE 36: it passes through like any other path, so nothing of ours can be read there."""
    theirs = response(b'{"error":"theirs"}', 404)
    async with RawUpstream([Read(), Send(theirs)]) as up, running(policy_of(up.url)) as lane:
        answer = await ask(lane, request(method, target))
        assert (answer.status, answer.body) == (404, b'{"error":"theirs"}')
        assert [sent.split(b" ")[1] for sent in up.requests] == [target.encode()]


async def test_dead_upstream_is_an_error_that_names_no_address() -> None:
    async with Stub() as stub:
        url = stub.url
    async with running(policy_of(url, fallback={"retry": {"baseline": 0}})) as lane:
        answer = await ask(lane, chat())
    assert answer.status == 502
    assert error_of(answer)["code"] == "connect"
    assert b"127.0.0.1" not in answer.body


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
async def test_chat_with_an_absolute_target_is_asked_of_the_policys_upstream(scheme: str) -> None:
    """ACCEPTANCE 36: by each attempt, with the policy's key, under the policy's name."""
    async with (
        RawUpstream([Read(), Send(response(b"{}", 500)), Read(), Send(ANSWER)]) as up,
        RawUpstream([Read(), Send(ANSWER)]) as elsewhere,
        running(policy_of(up.url)) as lane,
    ):
        target = f"{scheme}://{elsewhere.host}:{elsewhere.port}/v1/chat/completions"
        assert (await ask(lane, chat(target=target))).status == 200
        assert elsewhere.connections == []
        assert [sent.split(b"\r\n")[:2] for sent in up.requests] == [
            [b"POST /v1/chat/completions HTTP/1.1", f"Host: {up.host}:{up.port}".encode()]
        ] * 2


@pytest.mark.parametrize("target", ["elsewhere.example:443", "*", "ftp://elsewhere.example/v1", "http:///v1"])
@pytest.mark.parametrize("method", ["CONNECT", "OPTIONS", "GET", "POST"])
async def test_target_that_is_no_path_is_asked_of_nobody(method: str, target: str) -> None:
    """ACCEPTANCE 36."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        assert 400 <= (await ask(lane, request(method, target))).status < 500
        assert up.connections == []


async def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of the environment chooses no way for prompts and keys."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, RawUpstream([Read(), Send(ANSWER)]) as elsewhere:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, elsewhere.url)
        async with running(policy_of(up.url)) as lane:
            assert (await ask(lane, chat())).status == 200
        assert elsewhere.connections == []

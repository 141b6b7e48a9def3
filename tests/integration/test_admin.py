"""DESIGN §3.6: the admin listener from outside; ACCEPTANCE 36: and it is only there."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.ledger.ledger import Ledger
from proxy.listener.service import Service
from proxy.stub import Stub
from tests.integration.asking import ask, chat, error_of
from tests.support.lane import LOCAL, Lane, eventually, policy_of, running, store_of
from tests.support.raw_client import RawClient, RawResponse, request


async def admin(lane: Lane, path: str, method: str = "GET", *, body: bytes = b"") -> RawResponse:
    address = lane.service.admin
    async with RawClient(address.host, address.port) as client:
        await client.send(request(method, path, body))
        return await client.read_response(no_body=method == "HEAD")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_answer_200_while_serving(path: str) -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for method in ("GET", "HEAD"):
            assert (await admin(lane, path, method)).status == 200
        assert (await admin(lane, f"{path}?verbose")).status == 200
        assert stub.calls == []  # nothing is asked of an upstream


async def test_probes_do_not_depend_on_the_upstream() -> None:
    async with Stub() as stub:
        url = stub.url
    async with running(policy_of(url)) as lane:
        assert (await ask(lane, chat())).status == 502
        assert (await admin(lane, "/livez")).status == 200
        assert (await admin(lane, "/readyz")).status == 200


async def test_readiness_tells_start_service_and_end_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = asyncio.Event()

    async def follow(*_: object) -> None:
        """The store takes its time; requests wait for what was spent and braked before."""
        await opened.wait()

    policy = policy_of("http://127.0.0.1:1", limits={"drain_delay": "10s"})
    monkeypatch.setattr(Ledger, "follow", follow)
    service = Service(store_of(policy), LOCAL, LOCAL)
    starting = asyncio.create_task(service.start())
    lane = Lane(service)
    await eventually(lambda: service.admin_listener.is_open)
    assert (await admin(lane, "/livez")).status == 200
    answer = await admin(lane, "/readyz")
    assert (answer.status, answer.body) == (503, b"starting\n")
    opened.set()
    await starting
    answer = await admin(lane, "/readyz")
    assert (answer.status, answer.body) == (200, b"ready\n")
    stopping = asyncio.create_task(service.stop())
    await eventually(lambda: service.readiness != "ready")
    answer = await admin(lane, "/readyz")
    assert (answer.status, answer.body) == (503, b"draining\n")
    assert (await admin(lane, "/livez")).status == 200
    service.hurry()
    await stopping


async def test_metrics_are_valid_prometheus_text() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        await ask(lane, chat())
        answer = await admin(lane, "/metrics")
        assert answer.status == 200
        assert (answer.head.get(b"content-type") or b"").startswith(b"text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        policy = lane.service.exchange.policy
        assert [sample.labels for sample in families["splitlane_policy_info"].samples] == [{"hash": policy.hash}]
        assert families["splitlane_rollout_percentage"].samples[0].value == 25
        assert all(family.documentation for family in families.values())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/nothing", "/livez/x", "/metrics/", "//", "/v1/chat/completions", "/v1/models", "/%2e%2e/etc"]
)
async def test_unknown_admin_path_is_a_404_in_json(method: str, path: str) -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        answer = await admin(lane, path, method, body=b"{}" if method == "POST" else b"")
        assert answer.status == 404
        assert (answer.head.get(b"content-type") or b"").startswith(b"application/json")
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
        assert stub.calls == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_read_only_routes_take_no_other_method(method: str, path: str) -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        assert (await admin(lane, path, method)).status in (404, 405)


async def test_admin_listener_never_proxies() -> None:
    """ACCEPTANCE 36: an absolute target or a Host does not make it one."""
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for target in (f"{stub.url}/v1/models", "http://elsewhere.example/v1/models"):
            assert (await admin(lane, target)).status in (400, 404)
        assert stub.calls == []


async def test_broken_request_on_the_admin_port_is_a_4xx() -> None:
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        address = lane.service.admin
        async with RawClient(address.host, address.port) as client:
            await client.send(b"GET /metrics\x00 HTTP/1.1\r\n\r\n")
            assert 400 <= (await client.read_response()).status < 500
        assert (await admin(lane, "/livez")).status == 200


async def test_errors_of_the_data_port_are_openais_object() -> None:
    async with Stub() as stub:
        url = stub.url
    async with running(policy_of(url)) as lane:
        error = error_of(await ask(lane, chat()))
        assert (error["type"], error["code"]) == ("api_connection_error", "connect")

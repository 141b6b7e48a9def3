"""Notices to a webhook that takes them, refuses, hangs, lies, or is not there."""

import asyncio
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from proxy.telemetry import slack
from proxy.telemetry.slack import QUEUED, Notices
from tests.support.collector import Collector, Reply, collector, liar
from tests.support.lane import eventually

SECRET = "T000-B000-canary"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "GAP", 0.05)
    monkeypatch.setattr(slack, "PAUSE", 0.01)
    monkeypatch.setattr(slack, "TIMEOUT", 0.3)


@asynccontextmanager
async def notices_to(url: str | None) -> AsyncIterator[Notices]:
    notices = Notices()
    notices.follow(url and f"{url}/services/{SECRET}")
    try:
        yield notices
    finally:
        await notices.close()


def texts(hook: Collector) -> list[str]:
    return [json.loads(post.body)["text"] for post in hook.posts]


async def test_notice_is_posted_as_slack_wants_it() -> None:
    with collector() as hook:
        async with notices_to(hook.url) as notices:
            notices.tell("a", "brake of qa_agent <tripped> & so on")
            await eventually(lambda: notices.outcomes["sent"] == 1)
    (post,) = hook.posts
    assert post.path == f"/services/{SECRET}"
    assert post.headers["content-type"] == "application/json"
    assert json.loads(post.body) == {"text": "brake of qa_agent &lt;tripped&gt; &amp; so on"}


async def test_same_notice_is_sent_once() -> None:
    with collector() as hook:
        async with notices_to(hook.url) as notices:
            for _ in range(5):
                notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["sent"] == 1)
            notices.tell("a", "one")
            assert notices.outcomes["repeated"] == 5
    assert texts(hook) == ["one"]


async def test_what_gathers_goes_out_as_one_message_after_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "GAP", 0.3)
    with collector() as hook:
        async with notices_to(hook.url) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["sent"] == 1)
            began = time.monotonic()
            for name in "bcd":
                notices.tell(name, name)
            await eventually(lambda: notices.outcomes["sent"] == 4)
            assert time.monotonic() - began > 0.2
    assert texts(hook) == ["one", "b\nc\nd"]


async def test_queue_is_bounded_and_what_is_lost_is_counted() -> None:
    async with notices_to("http://127.0.0.1:1") as notices:
        for number in range(QUEUED + 10):
            notices.tell(str(number), "x")
        assert notices.outcomes["dropped"] == 10
    assert sum(notices.outcomes.values()) == QUEUED + 10


async def test_without_a_webhook_nothing_is_kept() -> None:
    async with notices_to(None) as notices:
        notices.tell("a", "one")
    assert sum(notices.outcomes.values()) == 0


async def test_failure_for_now_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "splitlane")
    with collector() as hook:
        answers = iter([Reply(503), Reply(429), Reply(200)])
        hook.answer = lambda _: next(answers)
        async with notices_to(hook.url) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["sent"] == 1)
    assert texts(hook) == ["one"] * 3
    assert [entry.getMessage() for entry in caplog.records if entry.name == "splitlane.telemetry"] == [
        "a notice is not taken: status 503; requests are not affected",
        "notices are taken again",
    ]


@pytest.mark.parametrize("status", [302, 403, 404, 500])
async def test_refused_notice_is_given_up_and_redirects_are_not_followed(status: int) -> None:
    with collector() as hook, collector() as elsewhere:
        hook.answer = lambda _: Reply(status, headers={"Location": elsewhere.url})
        async with notices_to(hook.url) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["failed"] == 1)
        assert elsewhere.posts == []
    assert len(hook.posts) == (slack.TRIES if status == 500 else 1)


def hang(_: socket.socket) -> None:
    """Say nothing."""


def flood(sock: socket.socket) -> None:
    """Answer without an end."""
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")


def flood_head(sock: socket.socket) -> None:
    """A head without an end."""
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"x-more: " + b"x" * 1000 + b"\r\n")


def babble(sock: socket.socket) -> None:
    """Something else than HTTP."""
    sock.recv(65536)
    sock.sendall(b"\0\1\2 hello\r\n\r\n")


@pytest.mark.parametrize(
    ("misbehave", "outcome"), [(hang, "failed"), (flood_head, "failed"), (babble, "failed"), (flood, "sent")]
)
async def test_whatever_a_webhook_does_it_is_over_soon_and_the_url_is_in_no_log(
    misbehave: object, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with liar(misbehave) as url:  # type: ignore[arg-type]
        async with notices_to(url) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes[outcome] == 1)
    assert SECRET not in caplog.text
    assert url.rpartition(":")[2] not in caplog.text


async def test_hanging_webhook_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "TIMEOUT", 30.0)
    with liar(hang) as url:
        async with notices_to(url) as notices:
            notices.tell("a", "one")
            await asyncio.sleep(0.05)
            notices.tell("b", "two")
            began = time.monotonic()
    assert time.monotonic() - began < slack.FAREWELL + 0.5
    assert (notices.outcomes["failed"], notices.outcomes["dropped"]) == (1, 1)


async def test_hanging_name_server_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        time.sleep(2)

    monkeypatch.setattr(slack, "TIMEOUT", 30.0)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    notices = Notices()
    notices.follow(f"http://hooks.example/{SECRET}")
    notices.tell("a", "one")
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await notices.close()
    assert time.monotonic() - began < slack.FAREWELL + 0.5
    assert notices.outcomes["failed"] == 1


async def test_end_sends_what_waits_for_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack, "GAP", 30.0)
    with collector() as hook:
        async with notices_to(hook.url) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["sent"] == 1)
            notices.tell("b", "two")
        assert texts(hook) == ["one", "two"]


async def test_tls_that_cannot_be_verified_is_refused() -> None:
    with liar(babble) as url:
        async with notices_to(url.replace("http:", "https:")) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes["failed"] == 1)


@pytest.mark.parametrize(("trusted", "outcome"), [(True, "sent"), (False, "failed")])
async def test_webhook_is_trusted_where_the_machine_trusts_it(
    monkeypatch: pytest.MonkeyPatch, trusted: bool, outcome: str
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    monkeypatch.setattr(slack, "TIMEOUT", 5.0)

    def take(sock: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            while not tls.recv(65536).endswith(b"}"):  # what is closed with bytes unread is reset
                pass
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with liar(take) as url, authority.cert_pem.tempfile() as path:
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", path)
        async with notices_to(url.replace("http:", "https:")) as notices:
            notices.tell("a", "one")
            await eventually(lambda: notices.outcomes[outcome] == 1)

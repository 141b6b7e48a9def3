"""The admin listener and browsers: names that are not ours, other sites' pages, frames; and guesses at the token."""

import hmac
import json
import logging
from pathlib import Path

import pytest

from proxy.admin import guard
from proxy.admin.door import Door, Refusals
from proxy.admin.guard import Guard, TokenError, token_of
from proxy.listener.service import Service
from tests.support.lane import LOCAL, TOKEN, Lane, policy_of, running, store_of
from tests.support.raw_client import RawClient, RawResponse, request

NOBODY = "http://127.0.0.1:1"
READABLE = ["/", "/dashboard/dashboard.js", "/livez", "/readyz", "/health", "/metrics", "/policy", "/report",
            "/assign?agent=qa_agent&user=u", "/nothing"]  # fmt: skip
ORDERS = ["/policy/reload", *(f"/rollout/{order}?agent=qa_agent" for order in ("advance", "rollback", "clear"))]
CROSS_SITE = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")]
BEARER = ("Authorization", f"Bearer {TOKEN}")


async def ask(
    lane: Lane,
    path: str,
    method: str = "GET",
    fields: list[tuple[str, str]] | None = None,
    host: str = "127.0.0.1:8081",
) -> RawResponse:
    address = lane.service.admin
    async with RawClient(address.host, address.port) as client:
        await client.send(request(method, path, b"", fields or [], host))
        return await client.read_response()


def code_of(answer: RawResponse) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]["code"]


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8081",
        "localhost.",
        "a.localhost:1",
        "127.0.0.1",
        "10.0.0.7:8081",
        "[::1]:8081",
        "[fe80::1]",
    ],
)
async def test_own_name_or_any_address_is_answered(host: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        assert (await ask(lane, "/policy", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:8081",
        "127.0.0.1.nip.io",
        "localhost.example",
        "notlocalhost",
        "",
        "[x",
        "1",
    ],
)
async def test_foreign_name_that_points_here_is_not_answered(host: str) -> None:
    """DNS rebinding: a page's own name, pointed at 127.0.0.1, makes us its own site for the browser."""
    async with running(policy_of(NOBODY)) as lane:
        for path in READABLE:
            assert code_of(await ask(lane, path, host=host)) == (421, "misdirected")
        for path in ORDERS:
            assert code_of(await ask(lane, path, "POST", [BEARER], host=host)) == (421, "misdirected")


async def test_two_hosts_are_none() -> None:
    async with running(policy_of(NOBODY)) as lane:
        assert (await ask(lane, "/policy", fields=[("Host", "127.0.0.1")])).status in (400, 421)


async def test_client_that_knows_no_host_is_answered() -> None:
    async with running(policy_of(NOBODY)) as lane:
        address = lane.service.admin
        async with RawClient(address.host, address.port) as client:
            await client.send(b"GET /livez HTTP/1.0\r\n\r\n")
            assert (await client.read_response()).status == 200


async def test_names_of_the_policy_are_answered_and_no_others() -> None:
    policy = policy_of(NOBODY, listen={"admin_hosts": ["Splitlane.corp.example"]})
    async with running(policy) as lane:
        assert (await ask(lane, "/policy", host="splitlane.corp.example:8081")).status == 200
        assert (await ask(lane, "/policy", host="127.0.0.1")).status == 200
        assert (await ask(lane, "/policy", host="other.corp.example")).status == 421


@pytest.mark.parametrize(
    ("host", "names", "answered"),
    [
        ("127.0.0.1", (), False),
        ("::1", (), False),
        ("localhost", (), False),
        ("0.0.0.0", (), True),
        ("::", (), True),
        ("10.0.0.7", (), True),
        ("0.0.0.0", ("a.example",), False),
    ],
)
def test_beyond_this_host_names_count_only_where_the_policy_has_some(
    host: str, names: tuple[str, ...], answered: bool
) -> None:
    assert Door(host, names, Refusals())._any_name is answered


# --- other sites --------------------------------------------------------------------------------------


FOREIGN = [
    CROSS_SITE,
    [("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")],
    [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")],
    [("Origin", "https://elsewhere.example")],
    [("Origin", "null")],
    [("Origin", "http://127.0.0.1:3000")],
]


@pytest.mark.parametrize("fields", FOREIGN)
async def test_page_of_another_site_gets_nothing_and_changes_nothing(fields: list[tuple[str, str]]) -> None:
    async with running(policy_of(NOBODY)) as lane:
        for path in READABLE:
            assert code_of(await ask(lane, path, fields=fields)) == (403, "foreign_origin"), path
        for path in ORDERS:
            assert code_of(await ask(lane, path, "POST", [BEARER, *fields])) == (403, "foreign_origin")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")],
        [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://behind.a.gateway.example")],
        [("Origin", "http://127.0.0.1:8081")],
        [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")],
    ],
    ids=["no browser", "typed", "own page", "own page of an old browser", "link followed"],
)
async def test_own_page_and_a_link_to_it_are_answered(fields: list[tuple[str, str]]) -> None:
    async with running(policy_of(NOBODY)) as lane:
        assert (await ask(lane, "/", fields=fields)).status == 200


async def test_followed_link_gives_no_order() -> None:
    followed = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")]
    async with running(policy_of(NOBODY)) as lane:
        assert code_of(await ask(lane, ORDERS[0], "POST", [BEARER, *followed])) == (403, "foreign_origin")
        assert (await ask(lane, ORDERS[0], "GET", [BEARER])).status in (404, 405)


@pytest.mark.parametrize("path", [*READABLE, "/dashboard/events"])
async def test_every_answer_forbids_frames_guesses_and_readers_elsewhere(path: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        for fields in ([("Accept", "*/*")], CROSS_SITE):
            head = (await ask(lane, path, fields=fields)).head
            assert head.get(b"x-frame-options") == b"DENY"
            assert b"frame-ancestors 'none'" in (head.get(b"content-security-policy") or b"")
            assert b"unsafe" not in (head.get(b"content-security-policy") or b"")
            assert head.get(b"x-content-type-options") == b"nosniff"
            assert head.get(b"cache-control") == b"no-store"
            assert head.get(b"cross-origin-resource-policy") == b"same-origin"
            assert not [name for name, _ in head.headers if name.lower().startswith(b"access-control-")]


async def test_preflight_is_not_granted() -> None:
    asked = [("Origin", "https://elsewhere.example"), ("Access-Control-Request-Method", "POST")]
    async with running(policy_of(NOBODY)) as lane:
        answer = await ask(lane, "/policy/reload", "OPTIONS", asked)
    assert answer.status == 403
    assert not [name for name, _ in answer.headers if name.lower().startswith(b"access-control-")]


# --- the token ----------------------------------------------------------------------------------------


WRONG = ["", " ", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\xff" * 8, "x" * 7000]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_every_comparison_takes_as_long_as_any_other(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of one length are compared by `compare_digest`: neither a prefix nor a length is told by time."""
    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return compare(left, right)

    async with running(policy_of(NOBODY)) as lane:
        monkeypatch.setattr(hmac, "compare_digest", watched)
        for path in ORDERS:
            answer = await ask(lane, path, "POST", [("Authorization", f"Bearer {wrong}")])
            assert code_of(answer) == (401, "wrong_admin_token")
    assert compared == [(32, 32)] * len(ORDERS)


@pytest.mark.parametrize(
    "fields", [[("Authorization", TOKEN)], [("Authorization", f"Basic {TOKEN}")], [("X-Admin-Token", TOKEN)],
               [("Cookie", f"token={TOKEN}")]]
)  # fmt: skip
@pytest.mark.parametrize("query", ["", f"?token={TOKEN}", f"?access_token={TOKEN}&agent=qa_agent"])
async def test_token_counts_nowhere_but_in_its_field(fields: list[tuple[str, str]], query: str) -> None:
    async with running(policy_of(NOBODY)) as lane:
        assert code_of(await ask(lane, f"/policy/reload{query}", "POST", fields)) == (401, "wrong_admin_token")


@pytest.mark.parametrize("token", ["", " ", "\n"])
async def test_empty_token_opens_nothing(token: str) -> None:
    service = Service(store_of(policy_of(NOBODY)), LOCAL, LOCAL, token=token)
    await service.start()
    try:
        for sent in ([], [("Authorization", "Bearer ")], [("Authorization", f"Bearer {TOKEN}")]):
            for path in ORDERS:
                assert code_of(await ask(Lane(service), path, "POST", sent)) == (403, "no_admin_token")
    finally:
        service.hurry()
        await service.stop()


async def test_guesses_are_counted_and_told_once_with_where_they_come_from(caplog: pytest.LogCaptureFixture) -> None:
    async with running(policy_of(NOBODY)) as lane:
        for number in range(5):
            await ask(lane, "/policy/reload", "POST", [("Authorization", f"Bearer guess-{number}")])
        await ask(lane, "/policy", host="rebound.example")
        metrics = (await ask(lane, "/metrics")).body
    told = [record.getMessage() for record in caplog.records if "refused on" in record.getMessage()]
    assert told == [
        "refused on the admin listener: wrong_admin_token, 1 times, last from 127.0.0.1",
        "refused on the admin listener: misdirected, 1 times, last from 127.0.0.1",
    ]
    for code, count in (("wrong_admin_token", 5), ("misdirected", 1), ("foreign_origin", 0)):
        assert b'splitlane_admin_refusals_total{code="%b"} %d.0' % (code.encode(), count) in metrics


async def test_token_from_a_file_changes_with_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text("first-token-of-the-file\n")
    service = Service(store_of(policy_of(NOBODY)), LOCAL, LOCAL, token=file)
    await service.start()

    async def status(token: str) -> int:
        fields = [("Authorization", f"Bearer {token}")]
        return (await ask(Lane(service), "/policy/reload?dry_run=1", "POST", fields)).status

    try:
        assert await status("first-token-of-the-file") == 200
        file.write_text("second-token-of-the-file")
        assert (await status("first-token-of-the-file"), await status("second-token-of-the-file")) == (401, 200)
        file.unlink()
        assert await status("second-token-of-the-file") == 403
    finally:
        service.hurry()
        await service.stop()
    assert "second-token" not in caplog.text


def test_environment_names_a_token_a_file_or_neither(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("canary\n")
    assert token_of({}) == token_of({"SPLITLANE_ADMIN_TOKEN": " "}) == ""
    assert token_of({"SPLITLANE_ADMIN_TOKEN": "canary "}) == "canary"
    assert token_of({"SPLITLANE_ADMIN_TOKEN_FILE": str(file)}) == file


@pytest.mark.parametrize(
    ("content", "token", "message"), [("", "", "is empty"), (" \n", "", "is empty"), (None, "", "No such file"),
                                      ("canary", "canary", "both set")]
)  # fmt: skip
def test_unusable_token_is_refused_at_start_and_not_shown(
    tmp_path: Path, content: str | None, token: str, message: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with pytest.raises(TokenError, match=message) as caught:
        token_of({"SPLITLANE_ADMIN_TOKEN": token, "SPLITLANE_ADMIN_TOKEN_FILE": str(file)})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(("token", "lines"), [("short", 1), ("x" * guard.SHORT, 0), ("", 0)])
def test_token_that_is_a_word_is_warned_of_without_showing_it(
    token: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    Guard(token, Refusals())
    assert len(caplog.records) == lines
    assert not token or token not in caplog.text

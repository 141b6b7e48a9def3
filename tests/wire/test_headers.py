"""Which fields pass, byte for byte.  ACCEPTANCE 3, 5, 6; RFC 9110 §7.6.1; W3C Baggage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.headers import (
    HOP_BY_HOP,
    NO_HEADERS,
    Field,
    RequestHeaders,
    RequestSorter,
    baggage_member,
    connection_tokens,
    is_host,
    response_block,
    response_field,
)

IDENTITY = frozenset({b"x-agent", b"x-user-id", b"x-splitlane-variant"})
# Fields of a request that belong to one hop or are written anew for each upstream.
ANEW = {b"host", b"content-length", b"authorization", b"accept-encoding"}


def sort(fields: list[Field], *, forward: bool = False) -> RequestHeaders:
    return RequestSorter(IDENTITY, forward=forward).sort(fields)


def case_of(draw: st.DrawFn, name: bytes) -> bytes:
    return draw(st.sampled_from([name, name.upper(), name.title(), name.swapcase()]))


@st.composite
def fields(draw: st.DrawFn) -> list[Field]:
    """Header fields as a peer may send them: known and unknown, repeated, of any case and value."""
    known = sorted(HOP_BY_HOP | IDENTITY | ANEW | {b"content-type", b"set-cookie", b"x-request-id", b"baggage"})
    name = st.one_of(st.sampled_from(known), st.from_regex(rb"[a-z-]{1,8}", fullmatch=True))
    value = st.binary(max_size=8).map(lambda raw: bytes(byte for byte in raw if byte not in b"\r\n\0"))
    listed = st.lists(st.sampled_from([*known, b"close", b"Keep-Alive", b""]), max_size=3)
    found: list[Field] = []
    for chosen in draw(st.lists(name, max_size=12)):
        if chosen == b"connection":
            content = draw(st.sampled_from([b", ", b",", b" ,\t"])).join(draw(listed))
        else:
            content = draw(value)
        found.append((case_of(draw, chosen), content))
    return found


def listed_by(fields: list[Field]) -> set[bytes]:
    """Every name that any `Connection` field lists."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def is_proxys(field: Field) -> bool:
    return field[0].lower().startswith(b"proxy-")


def plain(fields: list[Field]) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in fields)


# --- requests ---------------------------------------------------------------------------------------


@given(fields(), st.booleans())
def test_request_fields_pass_byte_for_byte_save_for_those_of_the_hop(sent: list[Field], forward: bool) -> None:
    gone = HOP_BY_HOP | ANEW | listed_by(sent) | (IDENTITY if not forward else {b"x-splitlane-variant"})
    assert sort(sent, forward=forward).passed == plain([field for field in sent if field[0].lower() not in gone])


@given(fields())
def test_first_field_of_a_name_is_read_whatever_connection_lists(
    sent: list[Field],
) -> None:
    headers = sort(sent)
    for wanted in IDENTITY | ANEW | {b"baggage"}:
        values = [value for name, value in sent if name.lower() == wanted]
        assert headers.read.get(wanted) == (values[0] if values else None)
    assert headers.hosts == sum(name.lower() == b"host" for name, _ in sent)


@given(st.lists(fields(), min_size=2, max_size=4))
def test_sorter_owes_nothing_to_the_requests_before(requests: list[list[Field]]) -> None:
    sorter = RequestSorter(IDENTITY, forward=False)
    for sent in requests:
        assert sorter.sort(sent) == sort(sent)


def test_peer_that_invents_names_is_still_sorted_right() -> None:
    sorter = RequestSorter(IDENTITY, forward=False)
    invented = [(b"x-%d" % number, b"v") for number in range(2000)]
    assert sorter.sort(invented).passed == plain(invented)
    mixed = [
        (b"X-AGENT", b"qa"),
        (b"te", b"trailers"),
        (b"x-%d" % 3000, b"v"),
        (b"cOnNeCtIoN", b"x-3000, x-1"),
    ]
    for _ in range(2):
        headers = sorter.sort([*mixed, (b"x-1", b"v"), (b"x-2", b"v")])
        assert headers.passed == b"x-2: v\r\n"
        assert headers.read[b"x-agent"] == b"qa"


def test_connection_that_lists_the_user_does_not_remove_the_user() -> None:
    headers = sort([(b"Connection", b"x-user-id, x-debug"), (b"X-User-Id", b"alice"), (b"X-Debug", b"1")])
    assert headers.read[b"x-user-id"] == b"alice"
    assert headers.passed == b""


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP | ANEW | IDENTITY))
def test_field_of_the_hop_reaches_no_upstream_in_any_case(name: bytes) -> None:
    for spelling in (name, name.upper(), name.title()):
        headers = sort([(spelling, b"v"), (b"x-kept", b"v")])
        assert headers.passed == b"x-kept: v\r\n"


@pytest.mark.parametrize("forward", [False, True])
def test_variant_header_is_ours_and_reaches_no_upstream(forward: bool) -> None:
    headers = sort([(b"x-splitlane-variant", b"baseline")], forward=forward)
    assert headers == RequestHeaders(b"", {b"x-splitlane-variant": b"baseline"}, 0)


@pytest.mark.parametrize("name", [b"content-encoding", b"baggage", b"x-stainless-read-timeout"])
def test_field_that_is_read_on_its_way_passes_too(name: bytes) -> None:
    assert sort([(name.title(), b"v")]) == RequestHeaders(name.title() + b": v\r\n", {name: b"v"}, 0)


def test_request_without_fields() -> None:
    assert sort([]) == NO_HEADERS


# --- responses --------------------------------------------------------------------------------------


@given(fields())
def test_response_fields_pass_save_for_those_of_the_hop(sent: list[Field]) -> None:
    gone = HOP_BY_HOP | {b"content-length"} | listed_by(sent)
    kept = [field for field in sent if field[0].lower() not in gone and not is_proxys(field)]
    assert response_block(plain(sent)) == plain(kept)


def test_response_keeps_both_cookies_and_the_vendors_fields() -> None:
    sent = [
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"retry-after", b"3"),
        (b"x-request-id", b"r"),
        (b"X-RateLimit-Remaining-Tokens", b"10"),
        (b"mistral-correlation-id", b"c"),
        (b"x-should-retry", b"true"),
        (b"X-Content-Length", b"1"),
        (b"X-Connection", b"x-request-id"),
        (b"X-Name", b"caf\xc3\xa9 \xff"),
    ]
    assert response_block(plain(sent)) == plain(sent)


@pytest.mark.parametrize(
    "head", [b"X-A:1\r\nX-B:  2 \r\n", b"x-empty:\r\n", b"X-A: Connection: x-b\r\nX-B: te: 1\r\n", b""]
)
def test_response_line_keeps_its_spacing(head: bytes) -> None:
    assert response_block(head) == head
    assert response_block(b"te:x\r\n" + head + b"CONNECTION:close \r\n") == head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"retry-after", b"3"),
        (b"x-empty", b""),
        (b"content", b""),
        (b"x-absent", b""),
    ],
)
def test_first_field_of_a_response_by_its_name(name: bytes, value: bytes) -> None:
    head = b"Content-Type:  Text/Event-Stream; charset=UTF-8 \r\nRETRY-AFTER:3\r\nRetry-After: 5\r\nx-empty:\r\n"
    assert response_field(head, name) == value


# --- both -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"Proxy-Authorization", b"Proxy-Connection", b"Proxy-Anything", b"proxy-x"])
def test_field_of_a_proxy_reaches_neither_side(name: bytes) -> None:
    assert response_block(plain([(name, b"v")])) == b""
    assert sort([(name, b"v")]).passed == b""


# --- Connection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"", set()),
        (b"close", set()),
        (b"Keep-Alive", set()),
        (b"KEEP-ALIVE", set()),
        (b"keep-alive, close", set()),
        (b"X-A", {b"x-a"}),
        (b"close, X-A ,\tx-b,,", {b"x-a", b"x-b"}),
    ],
)
def test_names_that_connection_lists(value: bytes, names: set[bytes]) -> None:
    assert connection_tokens(value) == names


def test_several_connection_fields_count_as_one() -> None:
    sent = [(b"Connection", b"x-a"), (b"X-A", b"1"), (b"connection", b"x-b"), (b"X-B", b"1"), (b"X-C", b"1")]
    assert sort(sent).passed == b"X-C: 1\r\n"
    assert response_block(plain(sent)) == b"X-C: 1\r\n"


# --- baggage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"user.id=alice", b"alice"),
        (b"a=b,user.id=alice,c=d", b"alice"),
        (b" user.id = alice ;ttl=60;x , c=d", b"alice"),
        (b"user.id=first,user.id=second", b"first"),
        (b"user.id=a%20b%2Cc%C3%A9", "a b,cé".encode()),
        (b"user.id=a=b", b"a=b"),
        (b"user.id=", b""),
        (b"user.id=50%", b"50%"),
        (b"user.id=a%2", b"a%2"),
        (b"user.id=%zz%41", b"%zzA"),
        (b"user.id=a% 1b", b"a% 1b"),
        (b"user.id=a%  b", b"a%  b"),
        (b"user.id=%%41", b"%A"),
        (b"user.id=%+1", b"%+1"),
        (b"user.id=\xff%C3", b"\xff\xc3"),
        (b"user.id", None),
        (b"User.Id=alice", None),
        (b"user.identity=alice", None),
        (b"x=user.id=alice", None),
        (b"", None),
    ],
)
def test_baggage_member(value: bytes, found: bytes | None) -> None:
    assert baggage_member(value, b"user.id") == found


@given(st.binary(min_size=1))
def test_baggage_brings_back_what_was_percent_encoded(user: bytes) -> None:
    encoded = b"".join(b"%%%02x" % byte for byte in user)
    assert baggage_member(b"a=1, user.id=" + encoded + b";p=1,b=2", b"user.id") == user


@given(st.from_regex(rb"([!#$&-+.-:<-~]|%[g-z!]|%[0-9a-f][g-z!])*%?", fullmatch=True))
def test_what_is_no_escape_in_baggage_is_itself(user: bytes) -> None:
    """No byte of it may get lost: two users must not become one."""
    assert baggage_member(b"user.id=" + user, b"user.id") == user


@pytest.mark.parametrize(
    "value", [b"", b"a", b"A.b-c_d~:80", b"a:", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"[v1.a:b]", b"%41"]
)
def test_host_and_port_are_a_host(value: bytes) -> None:
    """RFC 9110 §7.2."""
    assert is_host(value)


@pytest.mark.parametrize(
    "value", [b"a b", b"a, b", b"a/", b"u@a", b"a:80:80", b"[::1", b"[::1]x", b"::1", b"%4", b"\xc3\xa9"]
)
def test_host_with_more_than_host_and_port_is_none(value: bytes) -> None:
    """RFC 9112 §3.2."""
    assert not is_host(value)

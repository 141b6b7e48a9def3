import pytest

from proxy.policy.address import BaseUrl, check_http_url, is_within, parse_address, parse_base_url, parse_peers
from proxy.policy.snapshot import Address


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://api.mistral.ai", BaseUrl(True, "api.mistral.ai", 443, "", "api.mistral.ai")),
        ("https://api.mistral.ai/", BaseUrl(True, "api.mistral.ai", 443, "", "api.mistral.ai")),
        ("http://127.0.0.1:9090", BaseUrl(False, "127.0.0.1", 9090, "", "127.0.0.1:9090")),
        ("https://gw:443/llm/eu/", BaseUrl(True, "gw", 443, "/llm/eu", "gw")),
        ("http://GW.Example:80", BaseUrl(False, "gw.example", 80, "", "gw.example")),
        ("http://[::1]:8080/p", BaseUrl(False, "::1", 8080, "/p", "[::1]:8080")),
        ("http://ollama_1", BaseUrl(False, "ollama_1", 80, "", "ollama_1")),
    ],
)
def test_base_url_is_taken_apart(text: str, parts: BaseUrl) -> None:
    assert parse_base_url(text) == parts


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/llm/v1", "/v1/chat/completions"])
def test_v1_at_the_end_is_refused_with_the_remedy(path: str) -> None:
    with pytest.raises(ValueError, match="without /v1: leave it out"):
        parse_base_url("https://api.openai.com" + path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "api.mistral.ai",
        "//api.mistral.ai",
        "ftp://api.mistral.ai",
        "https://",
        "https:///p",
        "https://host?x=1",
        "https://host?",
        "https://host#x",
        "https://user:pass@host",
        "https://host:0",
        "https://host:65536",
        "https://host:http",
        "https://ho st",
        "https://hést",
        "https://host\r\nx: y",
        "https://[::zz]",
        "https://[fe80::1%25a[b]c]",
        "https://[fe80::1%a'b]",
        "https://-host-",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="scheme://host"):
        parse_base_url(text)


def test_http_url_may_have_path_and_query() -> None:
    assert check_http_url("https://hooks.example/a?b=c") == "https://hooks.example/a?b=c"


def test_http_url_with_a_user_is_refused() -> None:
    with pytest.raises(ValueError, match="without user"):
        check_http_url("https://a:b@hooks.example")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[0::0]:65535", Address("::", 65535)),
        ("[fe80::1%eth0.7]:80", Address("fe80::1%eth0.7", 80)),
        (":8080", Address("0.0.0.0", 8080)),
    ],
)
def test_address_is_taken_apart(text: str, parts: Address) -> None:
    assert parse_address(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "localhost",
        "host:",
        "host:port",
        "h:65536",
        "::1:80",
        "[::1]",
        "[h]:80",
        "a b:1",
        "h:٣",
        "h:1\n",
        "[::1%]:1",
        "[::1%a b]:1",
        "[::1%/?#]:1",
        "[::1%\r\n]:1",
    ],
)
def test_other_addresses_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"^HOST:PORT, \[V6\]:PORT or :PORT$"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("loopback", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], ["10.0.0.1", "::2", "::", "0.0.0.0"]),
        ("10.20.0.0/16", ["10.20.0.0", "10.20.255.255", "::ffff:10.20.1.1"], ["10.21.0.0", "::10.20.1.1", "fd00::1"]),
        ("10.20.1.1", ["10.20.1.1", "::ffff:a14:101"], ["10.20.1.2"]),
        ("0.0.0.0/0", ["8.8.8.8", "::ffff:8.8.8.8"], ["2001:db8::1"]),
        ("fd00:20::/32", ["fd00:20::1", "fd00:20:ffff::"], ["fd00:21::", "10.20.1.1"]),
        ("fe80::/10", ["fe80::1%eth0", "fe80::1"], ["fec0::"]),
        ("::ffff:10.20.0.0/112", ["10.20.0.1", "::ffff:10.20.0.1"], ["10.21.0.1"]),
        ("::/0", ["2001:db8::1"], ["10.20.1.1", "::ffff:10.20.1.1"]),
    ],
)
def test_peer_is_within_its_network_in_every_way_it_is_shown(text: str, inside: list[str], outside: list[str]) -> None:
    networks = parse_peers(text)
    assert networks is not None
    assert [host for host in inside if not is_within(networks, host)] == []
    assert [host for host in outside if is_within(networks, host)] == []


def test_any_is_no_network_and_nobody_is_within_none() -> None:
    assert parse_peers("any") is None
    assert not is_within((), "127.0.0.1")


@pytest.mark.parametrize("host", ["", "localhost", "127.0.0.1:80", "[::1]", "127.1", "2130706433", "/run/a.sock"])
def test_what_is_no_address_is_within_nothing(host: str) -> None:
    everything = (*(parse_peers("0.0.0.0/0") or ()), *(parse_peers("::/0") or ()))
    assert not is_within(everything, host)


@pytest.mark.parametrize("text", ["", "ANY", "localhost", "10.0.0.1/8", "10.0.0.0/33", "10.0.0", "::1/129", "::1 "])
def test_peers_of_another_form_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="any, loopback, or a network"):
        parse_peers(text)

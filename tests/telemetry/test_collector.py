"""A POST to a collector ends in time and reads little, whatever the collector does; secrets stay secret."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.util.re import parse_env_headers

from proxy.telemetry.collector import MAX_ANSWER, Collector, CollectorError, export_headers
from tests.support.collector import Reply, collector, liar
from tests.support.deaf import deaf_listener

QUICK = 0.2


def silent(sock: socket.socket) -> None:
    sock.recv(1)


def drip(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X")
        time.sleep(0.02)


def drip_body(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        sock.sendall(b"X")
        time.sleep(0.02)


def go_on(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def never_read(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def babble(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"secret nonsense\r\n" * 100)


def close(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


def talk_for_ever(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")
    while True:
        sock.sendall(b"X" * 65536)


@pytest.mark.parametrize("misbehave", [silent, drip, drip_body, go_on, never_read])
def test_post_to_a_collector_that_takes_for_ever_ends_in_time(misbehave: Callable[[socket.socket], None]) -> None:
    with liar(misbehave) as url:
        started = time.monotonic()
        with pytest.raises(CollectorError, match=r"no answer within 0\.2 s"):
            Collector(url, {}).post("/v1/traces", {}, b"x" * 10_000_000, QUICK)
        assert time.monotonic() - started < QUICK + 0.5


def test_post_to_a_collector_that_never_accepts_ends_in_time() -> None:
    with deaf_listener() as port, pytest.raises(CollectorError, match="no answer within"):
        Collector(f"http://127.0.0.1:{port}", {}).post("/v1/traces", {}, b"", QUICK)


def test_answer_without_end_is_read_to_the_limit() -> None:
    with liar(talk_for_ever) as url:
        answer = Collector(url, {}).post("/v1/traces", {}, b"", 5)
    assert (answer.status, len(answer.protobuf)) == (200, MAX_ANSWER)


@pytest.mark.parametrize(("misbehave", "why"), [(babble, "BadStatusLine"), (close, "RemoteDisconnected")])
def test_failure_is_told_without_a_word_of_the_collectors(misbehave: Callable[[socket.socket], None], why: str) -> None:
    with liar(misbehave) as url, pytest.raises(CollectorError) as caught:
        Collector(url, {}).post("/v1/traces", {}, b"", 5)
    assert str(caught.value) in (why, "Connection reset by peer")


def test_nobody_there_is_told_by_the_systems_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(CollectorError, match="Connection refused"):
        Collector(f"http://127.0.0.1:{port}", {}).post("/v1/traces", {}, b"", 5)


def test_cut_ends_a_post_that_is_under_way() -> None:
    with liar(silent) as url:
        found = Collector(url, {})
        threading.Timer(0.1, found.cut).start()
        started = time.monotonic()
        with pytest.raises(CollectorError):
            found.post("/v1/traces", {}, b"", 30)
        assert time.monotonic() - started < 2


def test_base_url_keeps_its_path_and_query_and_logs_neither() -> None:
    with collector() as otlp:
        found = Collector(f"{otlp.url}/api/otlp/?token=secret", {})
        found.post("/v1/metrics", {"x-key": "k"}, b"body", 5)
        assert found.name == otlp.url
    (post,) = otlp.posts
    assert (post.path, post.body, post.headers["x-key"]) == ("/api/otlp/v1/metrics?token=secret", b"body", "k")


def test_redirect_is_an_answer_and_not_followed() -> None:
    with collector() as otlp, collector() as elsewhere:
        otlp.answer = lambda _: Reply(307, b"", {"Location": elsewhere.url})
        assert Collector(otlp.url, {}).post("/v1/traces", {}, b"", 5).status == 307
    assert not elsewhere.posts


def test_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with collector() as otlp:
        assert Collector(otlp.url, {}).post("/v1/traces", {}, b"", 5).status == 200


@pytest.mark.parametrize(("written", "seconds"), [("7", 7.0), ("", 0.0), ("-1", 0.0), ("soon", 0.0), ("1e9", 0.0)])
def test_retry_after_in_seconds_is_read(written: str, seconds: float) -> None:
    with collector() as otlp:
        otlp.answer = lambda _: Reply(429, b"", {"Retry-After": written})
        assert Collector(otlp.url, {}).post("/v1/traces", {}, b"", 5).retry_after == seconds


def test_tls_is_verified_against_the_environments_certificate() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(sock: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(sock, server_side=True) as tls:
            asked = b""
            while not asked.endswith(b"\r\n\r\nx"):  # to leave earlier would be a reset
                asked += tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with liar(serve) as url, authority.cert_pem.tempfile() as path:
        base = url.replace("http:", "https:")
        assert Collector(base, {"OTEL_EXPORTER_OTLP_CERTIFICATE": path}).post("/v1/traces", {}, b"x", 5).status == 200
        with pytest.raises(CollectorError, match="certificate verify failed"):
            Collector(base, {}).post("/v1/traces", {}, b"x", 5)


def test_certificate_file_that_is_not_there_is_an_error_of_its_own() -> None:
    with pytest.raises(OSError, match="No such file"):
        Collector("https://127.0.0.1", {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"})


# --- header fields --------------------------------------------------------------------------------


MEMBER = st.builds(
    "{}={}".format,
    st.text("abcXYZ09-_", min_size=1),
    st.text("abc =XYZ09-_/+:") | st.sampled_from(["a%20b", "%2Fx%3D"]),
)


@given(st.lists(MEMBER).map(",".join))
def test_headers_are_read_as_opentelemetry_reads_them(written: str) -> None:
    found, unusable = export_headers({"OTEL_EXPORTER_OTLP_HEADERS": written}, "traces")
    theirs = parse_env_headers(written, liberal=True)
    assert unusable or theirs.items() <= found.items()


def test_header_list_of_the_signal_wins() -> None:
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "a=1", "OTEL_EXPORTER_OTLP_METRICS_HEADERS": "b=2"}
    assert export_headers(environ, "traces")[0]["a"] == "1"
    metrics, _ = export_headers(environ, "metrics")
    assert metrics["b"] == "2"
    assert "a" not in metrics


@pytest.mark.parametrize("member", ["secret", "a b=secret", "=secret", "a=sec%0D%0Aret", "a=s\u00e9cret", "a=%C3%A9"])
def test_member_that_is_no_field_is_left_out_and_counted(member: str) -> None:
    found, unusable = export_headers({"OTEL_EXPORTER_OTLP_HEADERS": f"{member},ok=1"}, "traces")
    assert unusable == 1
    assert found["ok"] == "1"
    assert not [value for value in found.values() if "cret" in value]


def test_own_fields_cannot_be_replaced() -> None:
    found, _ = export_headers({"OTEL_EXPORTER_OTLP_HEADERS": "Content-Type=text/plain"}, "traces")
    assert found["content-type"] == "application/x-protobuf"

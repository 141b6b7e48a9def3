"""TLS to an upstream: who is trusted, and who is not.

ACCEPTANCE 10 and point 6 of the issue.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from proxy.stub import Stub
from tests.support.lane import FINETUNED, running
from tests.support.raw_upstream import request_length
from tests.support.rescue import ANSWER, OK, apart, ask, assert_rescued, ours

AUTHORITY = trustme.CA()


@dataclass
class TlsUpstream:
    """An upstream behind TLS, and what reached it through the handshake."""

    url: str = ""
    connections: int = 0
    requests: int = 0
    protocol: str | None = None  # what ALPN agreed on, last


@asynccontextmanager
async def tls_upstream(*names: str) -> AsyncIterator[TlsUpstream]:
    """Answer every request with OK, under a certificate of our authority for `names`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2", "http/1.1"])
    AUTHORITY.issue_cert(*names).configure_cert(context)
    upstream = TlsUpstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream.connections += 1
        upstream.protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        received = b""
        try:
            while data := await reader.read(65_536):
                received += data
                while length := request_length(received):
                    received = received[length:]
                    upstream.requests += 1
                    writer.write(OK)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        upstream.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield upstream
        server.close()


@pytest.fixture
def ca_file(tmp_path: Path) -> str:
    """Our authority's certificate, as a policy names it."""
    path = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return str(path)


# A handshake is two round trips and some arithmetic, which a busy machine may take its time for.
PATIENT = {"connect": "10s", "first_byte": "10s", "idle": "10s"}


async def test_private_authority_is_trusted_where_the_policy_names_it(ca_file: str) -> None:
    """Point 6: and the connection is used again, with no second handshake."""
    async with Stub() as stub, tls_upstream("127.0.0.1") as candidate:
        policy = apart(candidate.url, stub.url, candidate={"ca_file": ca_file}, timeouts=PATIENT)
        async with running(policy) as lane:
            for _ in range(3):
                answer = await ask(lane)
                assert (answer.status, answer.body) == (200, ANSWER)
                assert ours(answer)["served"] == FINETUNED
        assert (candidate.connections, candidate.requests) == (1, 3)
        assert candidate.protocol == "http/1.1"


@pytest.mark.parametrize("file", ["another", "none", "missing", "not-pem"])
async def test_authority_that_the_policy_does_not_name_is_not_trusted(tmp_path: Path, file: str) -> None:
    """ACCEPTANCE 10: nothing is sent before the peer has proved who it is."""
    path = tmp_path / "ca.pem"
    if file == "another":
        trustme.CA().cert_pem.write_to_path(str(path))
    elif file == "not-pem":
        path.write_text("no certificate")
    settings = {} if file == "none" else {"ca_file": str(path)}
    async with Stub() as stub, tls_upstream("127.0.0.1") as candidate:
        async with running(apart(candidate.url, stub.url, candidate=settings, timeouts=PATIENT)) as lane:
            assert_rescued(await ask(lane), "connect")
        assert candidate.requests == 0


async def test_certificate_of_another_host_is_refused(ca_file: str) -> None:
    """ACCEPTANCE 10."""
    async with Stub() as stub, tls_upstream("other.test") as candidate:
        policy = apart(candidate.url, stub.url, candidate={"ca_file": ca_file}, timeouts=PATIENT)
        async with running(policy) as lane:
            assert_rescued(await ask(lane), "connect")
        assert candidate.requests == 0


async def test_private_authority_is_one_upstreams_alone(ca_file: str) -> None:
    """Point 6: trust for the candidate is none for the baseline, at the same address."""
    async with tls_upstream("127.0.0.1") as both:
        policy = apart(both.url, both.url, candidate={"ca_file": ca_file}, timeouts=PATIENT)
        async with running(policy) as lane:
            assert ours(await ask(lane))["served"] == FINETUNED
            refused = await ask(lane, user="user-42")
            record = await lane.record(2)
    assert (refused.status, record.failure) == (502, "connect")

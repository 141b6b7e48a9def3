"""Questions to an upstream's API from the command line: bounded in time and size, never redirected.

Nothing that is raised or returned shows the key.
"""

import json
import os
import ssl
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

from proxy.policy.settings import base_url
from proxy.policy.snapshot import UpstreamPolicy
from proxy.upstream.connect import tls_context

TIMEOUT = 15.0  # seconds for one question: lists of models come at once or not at all
MAX_ANSWER = 16 << 20  # bytes


class ApiAnswer(NamedTuple):
    """What came back; `status` is 0 where nothing did, and `problem` says why."""

    status: int
    body: Any  # parsed JSON; None where there is none
    problem: str


class UpstreamApi:
    """`async with UpstreamApi(upstream) as api`: asks with the policy's key, if it has one."""

    def __init__(self, upstream: UpstreamPolicy) -> None:
        self._upstream = upstream

    async def __aenter__(self) -> Self:
        key = self._upstream.authorization
        tls = tls_context(self._upstream.ca_file) if self._upstream.tls else True
        self._session = aiohttp.ClientSession(
            headers={} if key is None else {"Authorization": key.decode()},
            connector=aiohttp.TCPConnector(ssl=tls),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> ApiAnswer:
        """Ask `GET /v1/{path}`; `path` is quoted already."""
        url = f"{base_url(self._upstream)}/v1/{path}"
        try:
            # A redirect would carry the key to wherever it leads.
            async with self._session.get(url, allow_redirects=False) as response:
                return await _read(response)
        except TimeoutError:
            return ApiAnswer(0, None, f"no answer within {TIMEOUT:g} s")
        except ssl.SSLError as error:
            return ApiAnswer(0, None, f"TLS: {error.reason}")
        except aiohttp.ClientConnectorError as error:
            return ApiAnswer(0, None, f"cannot connect: {_reason(error.os_error)}")
        except aiohttp.ClientError as error:
            return ApiAnswer(0, None, f"no answer ({type(error).__name__})")


def _reason(error: OSError) -> str:
    # asyncio's own text repeats the address; a failed name lookup has a number of another kind.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


async def _read(response: aiohttp.ClientResponse) -> ApiAnswer:
    content = bytearray()
    async for piece in response.content.iter_chunked(1 << 16):
        content += piece
        if len(content) > MAX_ANSWER:
            return ApiAnswer(response.status, None, f"an answer of more than {MAX_ANSWER >> 20} MiB")
    try:
        return ApiAnswer(response.status, json.loads(content), "")
    except (ValueError, RecursionError):
        return ApiAnswer(response.status, None, "an answer that is no JSON")

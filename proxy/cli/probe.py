"""Whether models answer: one token of each, through the SDK of the vendor whose dialect the upstream speaks.

The SDKs raise many kinds of errors, so all are told by their status, and by what the request path would
make of the answer; never by their text, which may repeat a key.
"""

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from proxy.cli.live import REFUSED, Verdict, models_by_upstream
from proxy.cli.progress import Progress
from proxy.exchange.classify import judge
from proxy.policy.settings import base_url
from proxy.policy.snapshot import Policy, UpstreamPolicy
from proxy.upstream.connect import tls_context
from proxy.words import Dialect, Failure

TIMEOUT = 60.0  # seconds: a fine-tune that has not been asked for long is loaded first
CONCURRENT = 4  # a burst would meet rate limits

QUESTION = "Say yes."

_SDKS = {Dialect.MISTRAL: "mistralai", Dialect.OPENAI: "openai"}

Ask = Callable[[str], Awaitable[object]]


def missing_sdks(policy: Policy) -> list[str]:
    """The SDKs that this policy's upstreams need and that are not installed."""
    needed = {_SDKS[policy.upstreams[name].dialect] for name, models in models_by_upstream(policy).items() if models}
    return sorted(name for name in needed if importlib.util.find_spec(name) is None)


async def probe_models(policy: Policy) -> list[Verdict]:
    """A verdict for each upstream's models, in the policy's order."""
    wanted = {name: models for name, models in models_by_upstream(policy).items() if models}
    with Progress("asking models", sum(map(len, wanted.values()))) as progress:
        asked = (_probe(policy.upstreams[name], models, progress) for name, models in wanted.items())
        return [verdict for verdicts in await asyncio.gather(*asked) for verdict in verdicts]


async def _probe(upstream: UpstreamPolicy, models: tuple[str, ...], progress: Progress) -> list[Verdict]:
    if upstream.authorization is None:
        why = "the policy has no key for it: clients bring their own"
        return [Verdict(upstream.name, model, "unknown", why) for model in models]
    turn = asyncio.Semaphore(CONCURRENT)
    async with AsyncExitStack() as stack:
        ask = await (_mistral if upstream.dialect is Dialect.MISTRAL else _openai)(upstream, stack)

        async def probe(model: str) -> Verdict:
            async with turn:
                try:
                    async with asyncio.timeout(TIMEOUT):
                        await ask(model)
                except Exception as error:  # the SDKs' own, their HTTP library's, pydantic's
                    return _verdict(upstream, model, error)
                finally:
                    progress.step()
            return Verdict(upstream.name, model, "ok", "")

        return list(await asyncio.gather(*map(probe, models)))


async def _mistral(upstream: UpstreamPolicy, stack: AsyncExitStack) -> Ask:
    from mistralai.client import Mistral, httpclient  # noqa: PLC0415
    from mistralai.client.models import UserMessage  # noqa: PLC0415

    library: Any = httpclient  # its HTTP library has another name from version to version
    http = await stack.enter_async_context(
        library.httpx.AsyncClient(verify=tls_context(upstream.ca_file), timeout=TIMEOUT)
    )
    client = Mistral(api_key=_key(upstream), server_url=base_url(upstream), async_client=http)
    return lambda model: client.chat.complete_async(model=model, messages=[UserMessage(content=QUESTION)], max_tokens=1)


async def _openai(upstream: UpstreamPolicy, stack: AsyncExitStack) -> Ask:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient  # noqa: PLC0415

    http = DefaultAsyncHttpxClient(verify=tls_context(upstream.ca_file), timeout=TIMEOUT, follow_redirects=False)
    client = await stack.enter_async_context(
        AsyncOpenAI(api_key=_key(upstream), base_url=f"{base_url(upstream)}/v1", max_retries=0, http_client=http)
    )
    return lambda model: client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], max_completion_tokens=1
    )


def _key(upstream: UpstreamPolicy) -> str:
    return (upstream.authorization or b"").decode().removeprefix("Bearer ")


def _body(error: Exception) -> bytes:
    """The answer that an SDK made an error of, under whichever name it keeps it."""
    response = getattr(error, "response", None) or getattr(error, "raw_response", None)
    content = getattr(response, "content", b"")
    return content if isinstance(content, bytes) else b""


def _verdict(upstream: UpstreamPolicy, model: str, error: Exception) -> Verdict:
    status = getattr(error, "status_code", 0)
    if status in REFUSED:
        return Verdict(upstream.name, model, "refused", f"the key is refused (status {status})")
    if status:
        failure, _ = judge(status, _body(error))
        gone = status == HTTPStatus.NOT_FOUND or failure is Failure.MODEL_GONE
        word = "missing" if gone else "silent"
        return Verdict(upstream.name, model, word, f"status {status}, {failure or 'no answer'}")
    why = f"no answer within {TIMEOUT:g} s" if isinstance(error, TimeoutError) else type(error).__name__
    return Verdict(upstream.name, model, "unreachable", why)

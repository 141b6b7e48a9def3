"""What metrics and spans share in OTLP: attributes, the resource, and where models are served."""

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import unquote
from uuid import uuid4

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from proxy import __version__

# While a thread encodes, the event loop waits for the interpreter, up to 5 ms a time.  So after each few
# things, which take some 0.5 ms, it is offered; a pause of no length would not hand it over.
IN_A_ROW = 16
GIVE_WAY = 0.0001

SCOPE = InstrumentationScope(name="splitlane", version=__version__)

_T = TypeVar("_T")


class Peer(NamedTuple):
    """An upstream, as spans and metrics name it."""

    host: str
    port: int
    provider: str  # the convention's word for who answers


class Peers(NamedTuple):
    """The upstreams of a policy."""

    upstreams: Mapping[str, Peer]  # by the upstream's name
    providers: Mapping[str, str]  # by the model's


def attribute(key: str, value: str | float | bool) -> KeyValue:
    """One attribute; the value's type decides which of OTLP's it gets."""
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    return KeyValue(key=key, value=AnyValue(double_value=value))


# For values that come again and again, as the policy's names do.
known = lru_cache(1024, typed=True)(attribute)


def politely(things: Iterable[_T]) -> Iterator[_T]:
    """The same, with pauses in which other threads get on."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % IN_A_ROW == 0:
            time.sleep(GIVE_WAY)


def resource_of(environ: Mapping[str, str]) -> Resource:
    """Who speaks.  `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` add to it and win, as in every SDK."""
    attributes = {"service.name": "splitlane", "service.version": __version__, "service.instance.id": str(uuid4())}
    for member in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = member.partition("=")
        if equals and key.strip():
            attributes[key.strip()] = unquote(value.strip())
    if name := environ.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = name
    return Resource(attributes=[attribute(key, value) for key, value in attributes.items()])

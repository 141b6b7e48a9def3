"""`upstreams:` of the policy file."""

from typing import Annotated

from proxy.policy.fields import Credential, Duration, PositiveDuration, Section, Text, UpstreamUrl, whole
from proxy.words import Dialect


class TimeoutsConfig(Section):
    """Bounds of one attempt; `total` and `stream` bound the request."""

    connect: PositiveDuration = 2.0  # a live host answers a SYN in milliseconds; 2 s allows one lost SYN
    """The longest for name lookup, TCP and TLS."""
    first_byte: PositiveDuration = 20.0
    """The longest from the request written to the head of the response."""
    first_content: PositiveDuration = 30.0  # above first_byte: a stream's head comes before its content
    """The longest from the request written to the first content of a stream."""
    idle: PositiveDuration = 30.0
    """The longest between two reads of a response."""
    total: PositiveDuration = 120.0  # room for two full attempts and a wait
    """All attempts, up to a stream's commit point or a JSON answer's end; of an agent's two upstreams the larger."""
    stream: PositiveDuration = 900.0
    """The longest for the whole of a stream."""


class PoolConfig(Section):
    """Connections to one upstream."""

    max_connections: Annotated[int, whole(1, 65_535)] = 512
    """Connections to it, busy or idle."""
    keepalive: PositiveDuration = 30.0  # below the 60 s and more that load balancers keep idle connections
    """How long an idle connection is kept."""
    wait: Duration = 1.0  # for a free connection, before the attempt counts as overload
    """How long a request waits for a connection when all are busy, before that is `overload`."""


class UpstreamConfig(Section):
    """One place models are served."""

    base_url: UpstreamUrl
    """Where it is: `scheme://host[:port][/prefix]`, without `/v1`: the path of each request brings it."""
    api_key: Credential | None = None  # left out: the client's Authorization is forwarded
    """Sent as `Authorization: Bearer …`, in place of the client's."""
    dialect: Dialect = Dialect.OPENAI
    """Which request fields it accepts; others are renamed or dropped."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    pool: PoolConfig = PoolConfig()
    ca_file: Text | None = None  # left out: the system's certificate authorities
    """A PEM file; only the certificate authorities in it are trusted."""

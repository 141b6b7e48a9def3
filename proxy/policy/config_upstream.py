"""`upstreams:` of the policy file."""

from typing import Annotated

from proxy.policy.fields import Credential, Duration, PositiveDuration, Section, Text, UpstreamUrl, whole
from proxy.words import Dialect


class TimeoutsConfig(Section):
    """Bounds of one attempt; `total` and `stream` bound the request.  All in seconds once parsed."""

    connect: PositiveDuration = 2.0  # a live host answers a SYN in milliseconds; 2 s allows one lost SYN
    first_byte: PositiveDuration = 20.0
    first_content: PositiveDuration = 30.0  # above first_byte: a stream's head comes before its content
    idle: PositiveDuration = 30.0
    total: PositiveDuration = 120.0  # room for two full attempts and a wait
    stream: PositiveDuration = 900.0


class PoolConfig(Section):
    """Connections to one upstream."""

    max_connections: Annotated[int, whole(1, 65_535)] = 512
    keepalive: PositiveDuration = 30.0  # below the 60 s and more that load balancers keep idle connections
    wait: Duration = 1.0  # for a free connection, before the attempt counts as overload


class UpstreamConfig(Section):
    """One place models are served."""

    base_url: UpstreamUrl
    api_key: Credential | None = None  # left out: the client's Authorization is forwarded
    dialect: Dialect = Dialect.OPENAI
    timeouts: TimeoutsConfig = TimeoutsConfig()
    pool: PoolConfig = PoolConfig()
    ca_file: Text | None = None  # left out: the system's certificate authorities

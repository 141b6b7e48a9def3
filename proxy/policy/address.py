"""URLs and addresses of a policy, taken apart.  Pure."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from proxy.policy.snapshot import Address, Network

_FORM = "scheme://host[:port][/prefix] with http or https, without user, query or fragment"
_LISTENED_FORM = "HOST:PORT, [V6]:PORT or :PORT"
_PEERS_FORM = "any, loopback, or a network such as 10.0.0.0/8, whose bits behind the prefix are 0"
_URL = re.compile(r"[A-Za-z0-9._~:/%@!$&'()*+,;=?#\[\]-]+")
HOST_NAME = r"^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?$"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_LISTENED = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
# An address, and perhaps the scope it is in: `ipaddress` takes any bytes for one.
_V6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?")
_VERSIONED = re.compile(r"/v1(/chat/completions)?$")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class BaseUrl(NamedTuple):
    """Where an upstream is."""

    tls: bool
    host: str  # lower case; an IPv6 address without its brackets
    port: int
    prefix: str  # without a trailing slash; often empty
    host_header: str  # host, with the port unless it is the scheme's default


def parse_base_url(text: str) -> BaseUrl:
    """`https://host[:port][/prefix]` in its parts; `ValueError` says what was expected."""
    parts = _split(text)
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(_FORM)
    prefix = parts.path.rstrip("/")
    if _VERSIONED.search(prefix):
        raise ValueError("a URL without /v1: leave it out, the path of each request brings it")
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    default = _DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    header = shown if port == default else f"{shown}:{port}"
    return BaseUrl(parts.scheme == "https", host, port, prefix, header)


def check_http_url(text: str) -> str:
    """The text, if it is an http or https URL without a user; `ValueError` otherwise."""
    _split(text)
    return text


def check_host_name(text: str) -> str:
    """The text, if it is a host's name without a port; `ValueError` otherwise."""
    if not re.fullmatch(HOST_NAME, text):
        raise ValueError("a host's name, without scheme and port")
    return text


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `[V6]:PORT` or `:PORT` (all IPv4 addresses) in its parts; `ValueError` says what was expected."""
    found = _LISTENED.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(_LISTENED_FORM)
    if found["v6"] is not None:
        try:
            return Address(str(_v6(found["v6"])), int(found["port"]))
        except ValueError:
            raise ValueError(_LISTENED_FORM) from None
    host = found["host"] or "0.0.0.0"  # noqa: S104 what `:PORT` asks for
    if not _HOST.fullmatch(host):
        raise ValueError(_LISTENED_FORM)
    return Address(host, int(found["port"]))


def _v6(text: str) -> ipaddress.IPv6Address:
    if not _V6.fullmatch(text):
        raise ValueError(_LISTENED_FORM)
    return ipaddress.IPv6Address(text)


def parse_peers(text: str) -> tuple[Network, ...] | None:
    """`loopback`, an address or a network as networks; None: `any`.  `ValueError` says what was expected.

    A network of IPv4 addresses in their IPv6 form is one of IPv4, as `is_within` takes them.
    """
    if text == "any":
        return None
    if text == "loopback":
        return _LOOPBACK
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(_PEERS_FORM) from None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        address = network.network_address.ipv4_mapped
        assert address is not None
        network = ipaddress.IPv4Network((address, network.prefixlen - _MAPPED.prefixlen))
    return (network,)


def is_within(networks: tuple[Network, ...], host: str) -> bool:
    """Whether a peer's address, as a socket tells it, is in one of the networks."""
    try:
        found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped  # a socket for both families shows IPv4 peers so
    return any(found in network for network in networks)


def _split(text: str) -> SplitResult:
    if not _URL.fullmatch(text):
        raise ValueError(_FORM)
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname
        if host and ":" in host:
            _v6(host)
    except ValueError:
        raise ValueError(_FORM) from None
    known = parts.scheme in _DEFAULT_PORTS
    if not known or not host or port == 0 or "@" in parts.netloc:
        raise ValueError(_FORM)
    if ":" not in host and not _HOST.fullmatch(host):
        raise ValueError(_FORM)
    return parts

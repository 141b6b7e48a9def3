"""URLs and addresses of a policy, taken apart.  Pure."""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from proxy.policy.snapshot import Address

_FORM = "scheme://host[:port][/prefix] with http or https, without user, query or fragment"
_LISTENED_FORM = "HOST:PORT, [V6]:PORT or :PORT"
_URL = re.compile(r"[A-Za-z0-9._~:/%@!$&'()*+,;=?#\[\]-]+")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?\.?")
_LISTENED = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
# An address, and perhaps the scope it is in: `ipaddress` takes any bytes for one.
_V6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?")
_VERSIONED = re.compile(r"/v1(/chat/completions)?$")
_DEFAULT_PORTS = {"http": 80, "https": 443}


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

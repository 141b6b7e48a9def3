"""What the admin listener answers.  It is aiohttp's, whose import costs less from here."""

import ssl
from importlib import import_module


def _import_without_certificates() -> None:
    """Import aiohttp; while it loads it reads the machine's certificates, twice, for a client of its own: 0.1 s.

    That client, which nothing of ours uses, trusts nobody then.
    """
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[method-assign, assignment]
    try:
        import_module("aiohttp")
    finally:
        del ssl.SSLContext.set_default_verify_paths  # hid the inherited one


_import_without_certificates()

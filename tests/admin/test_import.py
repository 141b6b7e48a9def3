"""What the import of aiohttp costs a start, and what it must not cost."""

import os
import subprocess
import sys

import trustme

SAID = """
import ssl
import proxy.cli.serve
from aiohttp.connector import _SSL_CONTEXT_UNVERIFIED, _SSL_CONTEXT_VERIFIED as verified
print([each.cert_store_stats()["x509_ca"] for each in (verified, _SSL_CONTEXT_UNVERIFIED)])
print(verified.verify_mode == ssl.CERT_REQUIRED)
print(ssl.create_default_context().cert_store_stats()["x509_ca"])
"""


def test_serving_reads_no_certificates_for_a_client_that_nobody_uses() -> None:
    with trustme.CA().cert_pem.tempfile() as path:  # the only one that this machine trusts
        told = subprocess.run(
            [sys.executable, "-c", SAID], env={**os.environ, "SSL_CERT_FILE": path, "SSL_CERT_DIR": "/nowhere"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    assert told.splitlines() == ["[0, 0]", "True", "1"], "it trusts nobody; others trust whom the machine trusts"

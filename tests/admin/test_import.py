"""What the import of aiohttp costs a start, and what it must not cost."""

import subprocess
import sys

SAID = """
import ssl
import proxy.cli.serve
from aiohttp.connector import _SSL_CONTEXT_UNVERIFIED, _SSL_CONTEXT_VERIFIED as verified
print([each.cert_store_stats()["x509_ca"] for each in (verified, _SSL_CONTEXT_UNVERIFIED)])
print(verified.verify_mode == ssl.CERT_REQUIRED)
print(ssl.create_default_context(cafile=None).cert_store_stats()["x509_ca"] > 0)
"""


def test_serving_reads_no_certificates_for_a_client_that_nobody_uses() -> None:
    told = subprocess.run([sys.executable, "-c", SAID], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[:3] == ["[0, 0]", "True", "True"], "it trusts nobody; others trust whom the machine trusts"

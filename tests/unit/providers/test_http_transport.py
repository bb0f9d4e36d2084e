"""HTTP transport: the environment has no say, and what is sent is told truthfully."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import os
import ssl
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.retry import FaultKind
from handshake.providers.http_transport import HttpTransport
from handshake.providers.locality import Boundary
from handshake.providers.wire_sse import WireFault
from handshake.testing.replies import chunked, event_stream, response
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import LIMITS, PROVIDER, answered, model_at, opened, texts

ANSWER = chunked(event_stream("Hi"))
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
ADDRESS_VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL", "OLLAMA_HOST")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that nobody but itself signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
    day = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day - dt.timedelta(days=1))
        .not_valid_after(day + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(key.private_bytes(*plain) + made.public_bytes(serialization.Encoding.PEM))
    return file


@requirement("provider.environment.is_ignored")
async def test_proxies_and_addresses_of_the_environment_are_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with Upstream(ANSWER) as trap, Upstream(ANSWER) as upstream:
        for variable in PROXY_VARIABLES:
            monkeypatch.setenv(variable, trap.origin)
        for variable in ADDRESS_VARIABLES:
            monkeypatch.setenv(variable, trap.base_url)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(variable, "")
        assert texts(await answered(model_at(upstream.base_url))) == ["Hi"]
        assert texts(await answered(model_at(f"http://localhost:{upstream.port}/v1"))) == ["Hi"]
        assert trap.accepted == 0
        assert len(upstream.requests) == 2


@requirement("provider.environment.is_ignored", "provider.secret.never_leaks")
async def test_credentials_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password word\ndefault login me password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-live-0123456789")
    async with Upstream(ANSWER) as upstream:
        assert texts(await answered(model_at(upstream.base_url))) == ["Hi"]
        assert all("authorization" not in one.headers for one in upstream.received)


CHILD = """
import asyncio, ssl, sys
from tests.unit.providers.one_call import failed, model_at
_, fault = asyncio.run(failed(model_at(sys.argv[1])))
print(fault.fault.kind, fault.fault.sent, ssl.create_default_context().cert_store_stats()["x509"])
"""


@requirement("provider.environment.is_ignored")
async def test_certificates_of_the_environment_are_ignored(certificate: Path, tmp_path: Path) -> None:
    """In a process of its own, because clients read these variables when they are imported."""
    environment = dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(certificate))
    environment |= {"SSL_CERT_DIR": str(tmp_path / "none"), "PYTHONPATH": os.pathsep.join(sys.path)}
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    async with Upstream(ANSWER, tls=server) as upstream:
        command = (sys.executable, "-c", CHILD, upstream.base_url)
        child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        printed, _ = await child.communicate()
        assert printed.split() == [b"connect", b"False", b"1"], "the default would have trusted just this certificate"
        assert upstream.received == []


async def test_cookies_are_not_kept() -> None:
    cookie = [("set-cookie", "a=b; Path=/")]
    async with Upstream(chunked(event_stream("Hi"), headers=cookie)) as upstream:
        model = model_at(upstream.base_url)
        for _ in range(2):
            assert texts([piece async for piece in opened(model)]) == ["Hi"]
        await model.close()
        assert all("cookie" not in one.headers for one in upstream.received)


async def test_an_exchange_reads_a_response_to_its_end() -> None:
    async with Upstream(listing=response(b"as told", status=418, headers=[("x-one", "1")])) as upstream:
        transport = HttpTransport(Boundary(PROVIDER, parse_endpoint(upstream.base_url), Declared()))
        exchange = transport.exchange(LIMITS)
        assert (exchange.was_open, exchange.status, exchange.header("x-one")) == (False, 0, None)
        assert await exchange.read() == b""
        await exchange.send("GET", "/some/where", {"accept": "text/plain"})
        assert (exchange.was_open, exchange.status, exchange.header("x-one")) == (True, 418, "1")
        assert [await exchange.read(), await exchange.read()] == [b"as told", b""]
        await exchange.close()
        await exchange.close()
        await transport.close()
        seen = upstream.received[0]
        assert (seen.method, seen.path) == ("GET", "/some/where")
        assert seen.headers == {"host": f"127.0.0.1:{upstream.port}", "accept": "text/plain", "connection": "close"}


async def test_an_exchange_that_is_late_before_it_begins_sends_nothing() -> None:
    async with Upstream(ANSWER) as upstream:
        transport = HttpTransport(Boundary(PROVIDER, parse_endpoint(upstream.base_url), Declared()))
        exchange = transport.exchange(type(LIMITS)(0, 0, 0, 1))
        with pytest.raises(WireFault) as late:
            await exchange.send("GET", "/", {})
        await exchange.close()
        await transport.close()
        assert late.value.kind is FaultKind.TIMEOUT_TOTAL
        assert upstream.accepted == 0


async def test_a_transport_opens_again_after_it_was_closed() -> None:
    async with Upstream(ANSWER) as upstream:
        model = model_at(upstream.base_url)
        for _ in range(2):
            assert texts(await answered(model)) == ["Hi"]
        await model.close()
        assert upstream.accepted == 3

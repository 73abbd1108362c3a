"""What answers over the network: ports, certificates, and the gateway's own word."""

import asyncio
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

import httpx
from cryptography import x509
from cryptography.x509.oid import NameOID

from ai_stack.skill import SkillFailed

from .checks import Checked, Status

TIMEOUT_S = 3.0
GATEWAY_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 1 << 20
DAY_S = 86_400.0
PARTS: Mapping[str, Status] = {"healthy": "ok", "disabled": "ok", "degraded": "warning"}


async def check_ports(places: Sequence[str]) -> list[Checked]:
    return [*await asyncio.gather(*(_port(place) for place in places))]


async def check_certificates(places: Sequence[str], least_days: float) -> list[Checked]:
    found = await asyncio.gather(*(_certificate(place, least_days) for place in places))
    return [one for some in found for one in some]


async def check_gateway(url: str) -> list[Checked]:
    """The gateway as a whole, and each of its parts that is not well."""
    if not url:
        return []
    begun = time.perf_counter()
    answer = await ask_gateway(url)
    took_ms = (time.perf_counter() - begun) * 1000
    if isinstance(answer, str):
        return [Checked("gateway", url, "fault", answer)]
    status, parts = str(answer["status"]), answer["services"]
    told = f"The gateway is {status}; it answered in {took_ms:.0f} ms."
    found = [Checked("gateway", url, PARTS.get(status, "fault"), told, took_ms)]
    for name, part in parts.items() if isinstance(parts, dict) else ():
        found += _part(str(name), part)
    return found


async def ask_gateway(url: str) -> dict[str, object] | str:
    """What GET /health says, or a sentence that says why it says nothing."""
    try:
        async with (
            httpx.AsyncClient(timeout=GATEWAY_TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", url.rstrip("/") + "/health") as answer,
        ):
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    return f"What answers at {url} is not a gateway of the stack."
    except (httpx.HTTPError, httpx.InvalidURL):
        return f"No gateway answers at {url}."
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {"status", "services"} <= found.keys():
        return f"What answers at {url} is not a gateway of the stack."
    return found


def place_of(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[::1]:port`; SkillFailed for what is none."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise SkillFailed(f"{text!r} is no `host:port`, as in 127.0.0.1:5432.")
    return host.strip("[]"), int(port)


def _part(name: str, part: object) -> list[Checked]:
    facts = part if isinstance(part, dict) else {}
    status = PARTS.get(str(facts.get("status")), "fault")
    if status == "ok":
        return []
    detail = facts.get("detail") or "It says no more."
    return [Checked("stack", name, status, f"{name} is {facts.get('status')}: {detail}")]


async def _port(place: str) -> Checked:
    host, port = place_of(place)
    begun = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return Checked("port", place, "fault", f"Nothing accepts a connection at {place}.")
    writer.close()
    took_ms = (time.perf_counter() - begun) * 1000
    return Checked("port", place, "ok", f"{place} accepts connections.", took_ms)


async def _certificate(place: str, least_days: float) -> list[Checked]:
    host, port = place_of(place)
    try:
        encoded = await _presented(host, port)
        certificate = x509.load_der_x509_certificate(encoded)
    except (OSError, TimeoutError, ValueError):
        return [Checked("certificate", place, "fault", f"{place} presents no certificate.")]
    days = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() / DAY_S
    return [_lasting(place, certificate, days, least_days), *_naming(place, host, certificate)]


async def _presented(host: str, port: int) -> bytes:
    """A server's certificate, in DER, whoever signed it: it is judged here and not trusted."""
    lenient = ssl.create_default_context()
    lenient.check_hostname, lenient.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(TIMEOUT_S):
        _, writer = await asyncio.open_connection(host, port, ssl=lenient)
    try:
        encoded: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if encoded is None:
        raise ValueError
    return encoded


def _lasting(place: str, certificate: x509.Certificate, days: float, least_days: float) -> Checked:
    begins = certificate.not_valid_before_utc
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    itself = " It is signed by itself." if certificate.issuer == certificate.subject else ""
    if begins > datetime.now(UTC):
        told = f"The certificate of {place} is valid from {begins:%Y-%m-%d} on.{itself}"
        return Checked("certificate", place, "fault", told, days, least_days)
    if days < 0:
        told = f"The certificate of {place} ended on {ends}.{itself}"
        return Checked("certificate", place, "fault", told, days, least_days)
    status: Status = "fault" if days < least_days else "ok"
    told = f"The certificate of {place} lasts {days:.0f} days more, until {ends}.{itself}"
    return Checked("certificate", place, status, told, days, least_days)


def _naming(place: str, host: str, certificate: x509.Certificate) -> list[Checked]:
    """A fault where the certificate is of other names than the host's."""
    names = _names(certificate)
    if any(_is_named(host, name) for name in names):
        return []
    shown = ", ".join(names[:5]) or "nobody"
    told = f"The certificate of {place} is of {shown}, not of {host}."
    return [Checked("certificate_name", place, "fault", told)]


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(one.value) for one in common]
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _is_named(host: str, name: str) -> bool:
    try:
        return ip_address(host) == ip_address(name)
    except ValueError:
        pass
    host, name = host.lower().rstrip("."), name.lower().rstrip(".")
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return host == name

"""Who can reach the gateway, by which names, and whom it believes about that."""

from pathlib import Path

import pytest
from starlette.types import Message, Scope

from ai_stack.errors import SettingsError
from ai_stack.rest.forwarded import Forwarded
from ai_stack.settings import Settings, load_settings
from ai_stack.settings.exposure import check_exposure


def settings(**given: str) -> Settings:
    named = {f"AI_STACK_{name.upper()}": value for name, value in given.items()}
    return load_settings({"HOME": "/nowhere", **named})


def refusal(given: Settings, has_credentials: bool = False) -> str:
    with pytest.raises(SettingsError) as refused:
        check_exposure(given, has_credentials=has_credentials)
    return refused.value.message


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_loopback_needs_nothing(host: str) -> None:
    check_exposure(settings(host=host), has_credentials=False)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.nip.io"]
)
def test_a_wider_address_is_refused_with_what_is_missing(host: str) -> None:
    told = refusal(settings(host=host))
    assert "AI_STACK_AUTH=required" in told
    assert "AI_STACK_TLS_CERTIFICATE" in told
    assert "AI_STACK_PUBLISHED_HOST" in told


@pytest.mark.parametrize(
    ("given", "has_credentials", "missing"),
    [
        ({"auth": "required"}, False, "AI_STACK_TLS_CERTIFICATE"),
        ({"auth": "auto"}, True, "AI_STACK_TLS_CERTIFICATE"),
        ({"trusted_proxies": "10.0.0.0/8"}, False, "AI_STACK_AUTH"),
        ({"auth": "off", "trusted_proxies": "10.0.0.0/8"}, True, "AI_STACK_AUTH"),
        ({"auth": "auto", "tls_certificate": "/c", "tls_key": "/k"}, False, "AI_STACK_AUTH"),
    ],
)
def test_half_of_what_is_needed_is_not_enough(
    given: dict[str, str], has_credentials: bool, missing: str
) -> None:
    told = refusal(settings(host="0.0.0.0", **given), has_credentials)
    other = {"AI_STACK_TLS_CERTIFICATE", "AI_STACK_AUTH"} - {missing}
    assert missing in told
    assert not any(name in told for name in other)


def test_a_wider_address_is_open_with_authentication_and_tls_or_a_proxy() -> None:
    for auth, known in (("required", False), ("auto", True)):
        for safe in ({"trusted_proxies": "10.0.0.1"}, {"tls_certificate": "/c", "tls_key": "/k"}):
            given = settings(host="0.0.0.0", auth=auth, **safe)
            check_exposure(given, has_credentials=known)


def test_a_container_says_where_its_port_is_published() -> None:
    inside = settings(host="0.0.0.0", published_host="127.0.0.1")
    check_exposure(inside, has_credentials=False)
    refusal(settings(host="127.0.0.1", published_host="192.168.1.5"))


def test_a_proxy_on_this_machine_brings_others_too() -> None:
    assert "AI_STACK_TRUSTED_PROXIES" in refusal(settings(trusted_proxies="127.0.0.1"))


def test_a_certificate_comes_with_its_key() -> None:
    assert "AI_STACK_TLS_KEY" in refusal(settings(tls_certificate="/c.pem"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("hosts", "*.example.org"),
        ("hosts", "https://example.org"),
        ("hosts", "example.org:8091"),
        ("trusted_proxies", "nginx"),
        ("trusted_proxies", "10.0.0.0/33"),
        ("public_url", "example.org"),
        ("public_url", "https://example.org/stack"),
        ("public_url", "ftp://example.org"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"AI_STACK_{variable.upper()}"):
        settings(**{variable: value})


def test_names_come_from_all_that_name_the_gateway() -> None:
    given = settings(host="fd00::1", hosts="A.example, b.example", public_url="https://C.example")
    assert given.hosts_known == {"[fd00::1]", "a.example", "b.example", "c.example"}
    assert given.gateway_url == "http://[fd00::1]:8091"
    assert settings(tls_certificate="~/c.pem").tls_certificate == Path("~/c.pem").expanduser()
    assert settings(tls_certificate="/c.pem").gateway_url == "https://127.0.0.1:8091"


async def told(
    form: str, client: str | None, *headers: tuple[str, str]
) -> tuple[str, str | None, str]:
    """What the app sees of a request: its scheme, its client and its host."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: object, send: object) -> None:
        seen.append(scope)

    async def nothing() -> Message:
        raise AssertionError

    async def never(message: Message) -> None:
        raise AssertionError

    given = settings(trusted_proxies="10.0.0.0/8, ::1, 127.0.0.1", forwarded_header=form)
    peer = None if client is None else (client, 1234)
    sent = [(b"host", b"inner"), *((n.lower().encode(), v.encode()) for n, v in headers)]
    scope: Scope = {"type": "http", "scheme": "http", "client": peer, "headers": sent}
    await Forwarded(app, given.proxies, given.forwarded_header)(scope, nothing, never)
    (found,) = seen
    hosts = [v.decode() for n, v in found["headers"] if n == b"host"]
    assert len(hosts) == 1
    return found["scheme"], found["client"] and found["client"][0], hosts[0]


FOR, PROTO, HOST, STANDARD = (
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "Forwarded",
)


@pytest.mark.parametrize(
    ("client", "headers", "expected"),
    [
        # the one hop of a trusted proxy
        ("10.0.0.1", [(FOR, "1.2.3.4"), (PROTO, "https"), (HOST, "a")], ("https", "1.2.3.4", "a")),
        ("::1", [(FOR, "2001:db8::7"), (PROTO, "HTTPS")], ("https", "2001:db8::7", "inner")),
        # anybody else is not believed
        (
            "1.2.3.4",
            [(FOR, "9.9.9.9"), (PROTO, "https"), (HOST, "a")],
            ("http", "1.2.3.4", "inner"),
        ),
        (None, [(PROTO, "https")], ("http", None, "inner")),
        # what the client itself wrote stands to the left, and does not count
        ("10.0.0.1", [(FOR, "6.6.6.6, 1.2.3.4")], ("http", "1.2.3.4", "inner")),
        ("10.0.0.1", [(FOR, "6.6.6.6"), (FOR, "1.2.3.4")], ("http", "1.2.3.4", "inner")),
        ("10.0.0.1", [(FOR, "10.9.9.9, 1.2.3.4, 10.0.0.2")], ("http", "1.2.3.4", "inner")),
        (
            "10.0.0.1",
            [(FOR, "6.6.6.6, 1.2.3.4"), (PROTO, "https, http"), (HOST, "bad, good")],
            ("http", "1.2.3.4", "good"),
        ),
        # all trusted: the first of them asked
        ("10.0.0.1", [(FOR, "10.0.0.3, 10.0.0.2")], ("http", "10.0.0.3", "inner")),
        # nonsense changes nothing
        ("10.0.0.1", [(FOR, "unknown"), (PROTO, "gopher")], ("http", "10.0.0.1", "inner")),
        ("10.0.0.1", [(FOR, ", ,"), (PROTO, ",")], ("http", "10.0.0.1", "inner")),
        # the other form is ignored
        ("10.0.0.1", [(STANDARD, "for=9.9.9.9;proto=https")], ("http", "10.0.0.1", "inner")),
    ],
)
async def test_only_the_last_hop_before_trusted_proxies_counts(
    client: str, headers: list[tuple[str, str]], expected: tuple[str, str, str]
) -> None:
    assert await told("x-forwarded", client, *headers) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=1.2.3.4;proto=https;host=a", ("https", "1.2.3.4", "a")),
        ('For="[2001:db8::7]:4711"; Proto=https', ("https", "2001:db8::7", "inner")),
        ("for=6.6.6.6;proto=https, for=1.2.3.4", ("http", "1.2.3.4", "inner")),
        ("for=1.2.3.4;proto=https, for=10.0.0.2;proto=http", ("https", "1.2.3.4", "inner")),
        ('for=_hidden;proto=https;host="a.example:8443"', ("https", "10.0.0.1", "a.example:8443")),
        ('for=6.6.6.6;host="unfinished', ("http", "10.0.0.1", "inner")),
        ("nonsense", ("http", "10.0.0.1", "inner")),
    ],
)
async def test_the_standard_header_is_read_where_it_is_chosen(
    value: str, expected: tuple[str, str, str]
) -> None:
    assert await told("forwarded", "10.0.0.1", (STANDARD, value)) == expected
    untrusted = await told("forwarded", "1.2.3.4", (STANDARD, value))
    assert untrusted == ("http", "1.2.3.4", "inner")

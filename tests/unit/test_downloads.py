"""Which URLs and addresses are fetched, and which never."""

import ipaddress

import pytest

from ai_stack.errors import InvalidRequest
from ai_stack.services.downloads import check_url, is_public

PRIVATE = """
127.0.0.1 127.1.2.3 0.0.0.0 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254
100.64.0.1 192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250
240.0.0.1 255.255.255.255 ::1 :: fe80::1 fc00::1 fd12:3456::1 fec0::1 ff02::1 2001:db8::1
::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe
2002:7f00:1:: 2002:a00:1:: 2001:0:0:0:0:0:80ff:fffe 100::1
192.0.0.192 192.88.99.1 3fff::1 5f00::1 64:ff9b:1::7f00:1
"""
PUBLIC = "8.8.8.8 1.1.1.1 93.184.216.34 2606:4700:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8"
REFUSED = """
file:///etc/passwd gopher://x/ ftp://example.org/ //example.org/ example.org http:// http:///x
http://127.0.0.1/ http://[::1]/ http://[::ffff:127.0.0.1]/ http://169.254.169.254/latest/
http://user@example.org/ http://user:pw@example.org/ https://10.0.0.1:8443/ javascript:alert(1)
http://0.0.0.0/ http://[fe80::1%25eth0]/ http://2130706433.example.org@127.0.0.1/ data:,x
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC.split())
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("url", REFUSED.split())
def test_refused_urls(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url)


def test_a_url_is_taken_apart_once() -> None:
    url = check_url("https://example.org:8443/a/b.pdf?x=1#part")
    assert (url.host, url.port, url.raw_path) == ("example.org", 8443, b"/a/b.pdf?x=1")

"""URLs of callers: only allowed hosts, only public addresses, and no second look-up."""

from collections.abc import Sequence
from ipaddress import ip_network

import httpx2
import pytest

from app.errors import SourceRefused
from app.jobs.addresses import AddressRules
from app.jobs.outgoing import Outgoing
from app.lists import hosts_of
from tests.app.jobs.peer import Peer, Reply, listening

pytestmark = pytest.mark.anyio


class Names:
    """A resolver that returns the given answers in order, then always the last one."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # carrier-grade NAT
    "169.254.169.254",  # metadata of clouds
    "168.63.129.16",  # WireServer of Azure
    "192.0.0.9",  # nearest PCP server
    "192.0.0.25",
    "192.0.2.1",
    "192.88.99.1",  # nearest 6to4 relay
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "64:ff9b:1::a00:1",
    "feff::1",
    "::ffff:168.63.129.16",
    "fc00::1",
    "fd00:ec2::254",  # metadata of AWS
    "ff02::1",
    "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe",  # NAT64 of 169.254.169.254
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "100:0:0:1::1",
    "2001:1::1",  # nearest PCP server
    "2001:2::1",
    "2001:db8::1",
    "3fff::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", INSIDE)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    rules = AddressRules(hosts_of("*"), setting="ESRGAN_FETCH_HOSTS", resolver=Names([address]))
    with pytest.raises(SourceRefused, match="not public"):
        await rules.resolved("https://pictures.example.com/a.png")


async def test_one_such_address_among_public_ones_is_enough() -> None:
    rules = AddressRules(hosts_of("*"), setting="-", resolver=Names(["93.184.216.34", "10.0.0.1"]))
    with pytest.raises(SourceRefused, match="not public"):
        await rules.resolved("https://pictures.example.com/a.png")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
async def test_other_ways_to_write_this_machine_are_refused(host: str) -> None:
    rules = AddressRules(hosts_of("*"), setting="-")
    with pytest.raises(SourceRefused):
        await rules.resolved(f"http://{host}/a.png")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
async def test_a_public_address_is_allowed_and_pinned(address: str) -> None:
    names = Names([address], ["127.0.0.1"])
    rules = AddressRules(hosts_of("pictures.example.com"), setting="-", resolver=names)
    destination = await rules.resolved("https://pictures.example.com/a.png?x=1#part")
    assert destination.address in destination.pinned_url
    assert destination.pinned_url.endswith("/a.png?x=1")
    assert destination.host_header == "pictures.example.com"
    assert names.asked == 1


@pytest.mark.parametrize(
    ("rules", "url", "allowed"),
    [
        ("*", "https://anything.example.com/", True),
        ("*", "http://anything.example.com:80/", True),
        ("*", "https://anything.example.com:8443/", False),
        ("a.example.com", "https://A.example.com./", True),
        ("a.example.com", "https://b.example.com/", False),
        ("*.example.com", "https://b.c.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://badexample.com/", False),
        ("a.example.com:9000", "https://a.example.com:9000/", True),
        ("a.example.com:9000", "https://a.example.com/", False),
        ("a.example.com:443", "https://a.example.com/", True),
        ("a.example.com:443", "http://a.example.com/", False),
        ("[2001:db8::1]", "https://[2001:db8::1]/", True),
        ("[2001:db8::1]:9000", "https://[2001:DB8::1]:9000/", True),
        ("*", "ftp://a.example.com/", False),
        ("*", "file:///etc/passwd", False),
        ("*", "https://user:secret@a.example.com/", False),
        ("*", "https://a.example.com:99999/", False),
        ("*", "https:///nothing", False),
        ("*", "https://a.example.com/\r\nX: 1", False),
        ("", "https://a.example.com/", False),
    ],
)
def test_rules_name_hosts_and_ports(rules: str, url: str, *, allowed: bool) -> None:
    checked = AddressRules(hosts_of(rules), setting="ESRGAN_FETCH_HOSTS")
    if allowed:
        checked.check(url)
        return
    with pytest.raises(SourceRefused) as refusal:
        checked.check(url)
    assert "secret" not in refusal.value.detail


async def test_a_resolver_that_changes_its_answer_is_asked_once() -> None:
    """DNS rebinding: the name has a public address at the check, and an internal one at a second look-up."""
    async with listening(Peer(replies=[Reply(body=b"inside")])) as inside:
        names = Names(["127.0.0.2"], ["127.0.0.1"])  # nothing listens at the first, the "public" one
        rules = AddressRules(
            hosts_of(f"evil.example.com:{inside.port}"),
            setting="-",
            networks=[ip_network("127.0.0.2/32")],
            resolver=names,
        )
        url = f"http://evil.example.com:{inside.port}/"
        with pytest.raises(httpx2.ConnectError):
            async with Outgoing(rules).request("GET", url):
                pass
        assert names.asked == 1
        with pytest.raises(SourceRefused, match="not public"):
            async with Outgoing(rules).request("GET", url):
                pass
        assert inside.received == []


async def test_the_name_is_sent_although_the_address_is_connected_to() -> None:
    async with listening(Peer(replies=[Reply(body=b"picture")])) as peer:
        rules = AddressRules(
            hosts_of(f"pictures.example.com:{peer.port}"),
            setting="-",
            networks=[ip_network("127.0.0.0/8")],
            resolver=Names(["127.0.0.1"]),
        )
        url = f"http://pictures.example.com:{peer.port}/a.png"
        async with Outgoing(rules).request("GET", url) as response:
            assert await response.aread() == b"picture"
        assert peer.received[0].headers["host"] == f"pictures.example.com:{peer.port}"
        assert peer.received[0].headers["accept-encoding"] == "identity"


async def test_a_redirect_is_not_followed() -> None:
    reply = Reply(status=302, headers={"Location": "http://169.254.169.254/latest"})
    async with listening(Peer(replies=[reply])) as peer:
        rules = AddressRules(hosts_of(f"127.0.0.1:{peer.port}"), setting="-", networks=[ip_network("127.0.0.0/8")])
        with pytest.raises(SourceRefused, match="redirects"):
            async with Outgoing(rules).request("GET", peer.address):
                pass
        assert len(peer.received) == 1

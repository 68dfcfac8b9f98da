"""Pictures from URLs and results to URLs: complete, limited in size, retried if that may help."""

import asyncio
from contextlib import suppress
from ipaddress import ip_network
from socket import EAI_AGAIN, EAI_FAIL, EAI_NONAME, gaierror
from typing import NoReturn

import pytest

from app.errors import SourceRefused
from app.jobs.addresses import AddressRules
from app.jobs.outgoing import Outgoing
from app.jobs.store import one
from app.jobs.transfer import Transfer
from app.lists import hosts_of
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.live import until

pytestmark = pytest.mark.anyio

LOCAL = ip_network("127.0.0.0/8")


def transfer(peer: Peer, rules: AddressRules | None = None, *, whole_s: float = 60, wait_s: float = 60) -> Transfer:
    rules = rules or AddressRules(hosts_of(f"127.0.0.1:{peer.port}"), setting="-", networks=[LOCAL])
    outgoing = Outgoing(rules, idle_s=60)
    return Transfer(outgoing, whole_s=whole_s, min_bytes_per_s=10_000, wait_s=wait_s, retries_s=(0.01, 0.01))


async def test_a_picture_is_read_from_its_url(peer: Peer) -> None:
    peer.replies = [Reply(body=b"x" * 100_000)]
    assert await transfer(peer).fetch(f"{peer.address}/a.png?key=1", 100_000) == b"x" * 100_000
    assert peer.received[0].path == "/a.png?key=1"


async def test_a_proxy_of_the_environment_is_not_used(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with listening(Peer()) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.address)
        await transfer(peer).fetch(peer.address, 1000)
    assert (len(peer.received), proxy.received) == (1, [])


@pytest.mark.parametrize("scheme", ["HTTPS", "https"])
async def test_https_is_verified_in_any_case_of_letters(
    peer: Peer, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AskedForCertificatesError(Exception):
        pass

    async def certificates(_: Outgoing) -> NoReturn:
        raise AskedForCertificatesError

    monkeypatch.setattr(Outgoing, "_tls", certificates)
    with pytest.raises(AskedForCertificatesError):
        await transfer(peer).fetch(f"{scheme}://127.0.0.1:{peer.port}/a.png", 10**6)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_picture_that_is_too_large_is_refused(peer: Peer, *, announced: bool) -> None:
    body = b"%x\r\n" % 1001 + b"x" * 1001 + b"\r\n0\r\n\r\n"
    chunked = Reply(body=body, headers={"Transfer-Encoding": "chunked", "Content-Length": ""})
    peer.replies = [Reply(body=b"x" * 1001) if announced else chunked]
    with pytest.raises(SourceRefused, match="more than 1000 bytes"):
        await transfer(peer).fetch(peer.address, 1000)


@pytest.mark.parametrize("status", [403, 404])
async def test_a_refusal_is_final(peer: Peer, status: int) -> None:
    peer.replies = [Reply(status=status)]
    with pytest.raises(SourceRefused, match=f"answers {status}"):
        await transfer(peer).fetch(f"{peer.address}/?signature=secret", 1000)
    assert len(peer.received) == 1


async def test_a_host_that_is_busy_is_asked_again(peer: Peer) -> None:
    peer.replies = [Reply(status=503), Reply(status=429), Reply(body=b"picture")]
    assert await transfer(peer).fetch(peer.address, 1000) == b"picture"


async def test_a_name_is_looked_up_again_where_the_name_servers_did_not_answer(peer: Peer) -> None:
    failures = [gaierror(EAI_AGAIN, "Temporary failure"), gaierror(EAI_FAIL, "Non-recoverable failure")]

    async def resolver(host: str, port: int) -> list[str]:
        if failures:
            raise failures.pop()
        return ["127.0.0.1"]

    rules = AddressRules(hosts_of(f"a.test:{peer.port}"), setting="-", networks=[LOCAL], resolver=resolver)
    peer.replies = [Reply(body=b"picture")]
    fetched = Transfer(Outgoing(rules, idle_s=60), whole_s=60, min_bytes_per_s=1, retries_s=(0.01, 0.01))
    assert await fetched.fetch(f"http://a.test:{peer.port}/", 1000) == b"picture"


async def test_a_name_that_does_not_exist_is_not_looked_up_again() -> None:
    looked_up = 0

    async def resolver(host: str, port: int) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        raise gaierror(EAI_NONAME, "Name or service not known")

    rules = AddressRules(hosts_of("*"), setting="-", resolver=resolver)
    with pytest.raises(SourceRefused, match=r"a\.test has no address"):
        await Transfer(Outgoing(rules), whole_s=5, min_bytes_per_s=1, retries_s=(0.01,)).fetch("http://a.test/", 1000)
    assert looked_up == 1


async def test_a_host_that_stays_busy_is_given_up(peer: Peer) -> None:
    peer.replies = [Reply(status=503)]
    with pytest.raises(SourceRefused, match="failed 3 times: it answers 503"):
        await transfer(peer).fetch(f"{peer.address}/?signature=secret", 1000)
    assert len(peer.received) == 3


@pytest.mark.parametrize(("limits", "times"), [({"wait_s": 0.1}, 3), ({"whole_s": 1.0}, 1)])
async def test_a_host_that_hangs_is_given_up(peer: Peer, limits: dict[str, float], times: int) -> None:
    looked_up = 0

    async def resolver(host: str, port: int) -> list[str]:
        nonlocal looked_up
        looked_up += 1
        return ["127.0.0.1"]

    peer.replies = [Reply(hold=True)]
    rules = AddressRules(hosts_of(f"a.test:{peer.port}"), setting="-", networks=[LOCAL], resolver=resolver)
    with pytest.raises(SourceRefused, match="too slow"):
        await transfer(peer, rules, **limits).fetch(f"http://a.test:{peer.port}/", 1000)
    assert looked_up == times  # a busy machine does not always connect in time


async def test_a_host_that_sends_and_takes_bytes_slowly_is_given_up() -> None:
    connections = 0

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # on a busy machine, even before the head
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n" + b"\r\n" * head.startswith(b"GET"))
            while not writer.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        connections -= 1

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        peer = Peer(port=server.sockets[0].getsockname()[1])
        with pytest.raises(SourceRefused, match=r"failed 3 times: .* too slowly"):
            await transfer(peer, wait_s=0.1).fetch(peer.address, 1000)
        with pytest.raises(SourceRefused, match=r"failed 3 times: .* too slowly"):
            await transfer(peer, wait_s=0.1).send(peer.address, lambda: one(b"result"), 6, "image/png")
        await until(lambda: connections == 0)


async def test_a_host_that_keeps_the_rate_may_take_longer_than_for_its_first_bytes() -> None:
    async def steadily(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.03)
            writer.write(b"x" * 2000)
        writer.close()

    async with await asyncio.start_server(steadily, "127.0.0.1", 0) as server:
        peer = Peer(port=server.sockets[0].getsockname()[1])
        assert len(await transfer(peer, wait_s=0.15).fetch(peer.address, 20_000)) == 20_000


async def test_a_compressed_picture_is_refused(peer: Peer) -> None:
    peer.replies = [Reply(body=b"x", headers={"Content-Encoding": "gzip"})]
    with pytest.raises(SourceRefused, match="gzip"):
        await transfer(peer).fetch(peer.address, 1000)


async def test_a_result_is_written_whole_and_again_where_the_host_was_busy(peer: Peer) -> None:
    peer.replies = [Reply(status=500), Reply(status=200)]
    await transfer(peer).send(f"{peer.address}/out?X-Signature=1", lambda: one(b"result"), 6, "image/png")
    assert [(it.method, it.body, it.headers["content-type"]) for it in peer.received] == [
        ("PUT", b"result", "image/png")
    ] * 2

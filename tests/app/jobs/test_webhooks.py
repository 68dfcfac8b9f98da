"""Webhooks: verified by an independent library, retried with one id, recorded, redelivered on demand."""

import asyncio
import errno
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.errors import NoSuchJob, NotReady
from app.jobs import outbox
from app.jobs.addresses import AddressRules
from app.jobs.counters import JobCounters
from app.jobs.database import Database
from app.jobs.job import StoredJob
from app.jobs.outbox import Delivery
from app.jobs.outgoing import Outgoing
from app.jobs.webhooks import (
    DELAYS_S,
    JITTER,
    MAX_OF_ONE_HOST,
    MAX_OF_ONE_KEY,
    MAX_RETRY_AFTER_S,
    Deliverer,
    WebhookSecrets,
    seconds_of,
)
from app.lists import hosts_of
from app.settings import Settings
from tests.app.jobs.peer import Peer, Reply, listening
from tests.app.jobs.rows import added, ended, new_job, taken
from tests.app.live import until
from tests.app.processes import free_port
from tests.clock import ManualClock

pytestmark = pytest.mark.anyio

MASTER = "m" * 40


class RunningClock(ManualClock):
    """The real time, so that retries become due."""

    def __call__(self) -> float:
        return time.time()


@pytest.fixture
def clock() -> ManualClock:
    return RunningClock()


async def done_job(database: Database, url: str, key: str = "shop") -> StoredJob:
    """A job that is done and has a webhook."""
    job = await added(database, new_job(key=key, webhook=url))
    await ended(database, await taken(database))
    return job


def deliverer(
    database: Database, port: int, *, delays_s: tuple[float, ...] = (0.02,) * 5, keys: WebhookSecrets | None = None
) -> Deliverer:
    rules = AddressRules(
        hosts_of(f"127.0.0.1:{port}"), setting="ESRGAN_WEBHOOK_HOSTS", networks=[ip_network("127.0.0.0/8")]
    )
    keys = keys or WebhookSecrets([MASTER])
    return Deliverer(database, Outgoing(rules, idle_s=60), keys, JobCounters(), delays_s=delays_s)


async def delivered(database: Database, job: StoredJob, delivering: Deliverer, *, state: str = "delivered") -> Delivery:
    """Deliver until the job's webhook is in a state."""
    delivering.start()
    try:
        async with asyncio.timeout(60):
            while True:
                (delivery,) = await database.read(partial(outbox.of_job, job_id=job.id))
                if delivery.state == state:
                    return delivery
                delivering.wake()
                await asyncio.sleep(0.02)
    finally:
        await delivering.stop()


async def test_a_webhook_is_verified_by_the_library_of_the_standard(database: Database, peer: Peer) -> None:
    job = await done_job(database, f"{peer.address}/hook")
    await delivered(database, job, deliverer(database, peer.port))
    (received,) = peer.received
    (secret,) = WebhookSecrets([MASTER]).of_key("shop")
    message = Webhook(secret).verify(received.body, dict(received.headers))
    assert message["type"] == "job.done"
    assert message["data"]["id"] == job.id
    assert received.headers["content-type"] == "application/json"


async def test_the_secret_of_another_key_does_not_verify_it(database: Database, peer: Peer) -> None:
    await delivered(database, await done_job(database, peer.address), deliverer(database, peer.port))
    (secret,) = WebhookSecrets([MASTER]).of_key("other")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(peer.received[0].body, dict(peer.received[0].headers))


async def test_while_secrets_change_both_verify(database: Database, peer: Peer) -> None:
    keys = WebhookSecrets(["n" * 40, MASTER])
    await delivered(database, await done_job(database, peer.address), deliverer(database, peer.port, keys=keys))
    for secret in keys.of_key("shop"):
        assert Webhook(secret).verify(peer.received[0].body, dict(peer.received[0].headers))


async def test_a_receiver_that_fails_for_a_while_gets_the_same_webhook_again(database: Database, peer: Peer) -> None:
    peer.replies = [Reply(status=500), Reply(status=302, headers={"Location": "/"}), Reply(status=204)]
    delivery = await delivered(database, await done_job(database, peer.address), deliverer(database, peer.port))
    assert [attempt["status"] for attempt in delivery.attempts] == [500, None, 204]
    assert len({(it.headers["webhook-id"], it.body) for it in peer.received}) == 1
    assert peer.received[0].headers["webhook-id"] == delivery.id


async def test_a_receiver_that_is_down_gets_its_webhook_when_it_is_back(database: Database) -> None:
    down = free_port()
    rules = AddressRules(hosts_of(f"127.0.0.1:{down}"), setting="-", networks=[ip_network("127.0.0.0/8")])
    job = await done_job(database, f"http://127.0.0.1:{down}")
    delivering = Deliverer(database, Outgoing(rules), WebhookSecrets([MASTER]), JobCounters(), delays_s=(0.05,) * 100)
    waiting = asyncio.create_task(delivered(database, job, delivering))
    async with asyncio.timeout(60):
        while not (await database.read(partial(outbox.of_job, job_id=job.id)))[0].attempts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    async with listening(Peer(port=down)) as back:
        delivery = await waiting
        assert len(back.received) == 1
    assert len(delivery.attempts) > 1
    assert delivery.attempts[0]["error"] == "ConnectError"


async def test_a_receiver_that_hangs_is_not_waited_for(
    database: Database, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.webhooks.ANSWER_S", 0.1)
    peer.replies = [Reply(hold=True), Reply()]
    delivery = await delivered(database, await done_job(database, peer.address), deliverer(database, peer.port))
    assert delivery.attempts[0]["error"] == "TimeoutError"


async def waiting_on_hangs(
    database: Database, urls: Sequence[str], other_key: str, names: Sequence[str], *, most: int
) -> list[str]:
    """Deliver webhooks of one key to receivers that hang, and one of another key; returns the hanging requests.

    Args:
        most: the number of hanging requests to wait for.
    """
    async with listening(Peer(replies=[Reply(hold=True)] * 99)) as hanging, listening(Peer()) as other:
        for url in urls:
            await done_job(database, url.format(port=hanging.port))
        await done_job(database, f"{other.address}?job=1", key=other_key)

        async def resolver(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        hosts = ",".join(f"{name}:{it.port}" for name in ("127.0.0.1", *names) for it in (hanging, other))
        rules = AddressRules(hosts_of(hosts), setting="-", networks=[ip_network("127.0.0.0/8")], resolver=resolver)
        delivering = Deliverer(database, Outgoing(rules, idle_s=20), WebhookSecrets([MASTER]), JobCounters())
        delivering.start()
        await until(lambda: len(hanging.received) >= most and bool(other.received))
        await asyncio.sleep(0.1)  # time for one too many
        await delivering.stop()
        assert len(other.received) == 1
        return [it.path for it in hanging.received]


async def test_a_receiver_that_hangs_leaves_room_for_others_however_its_name_is_written(database: Database) -> None:
    spelled = ("a.test", "A.test", "a.tesT", "a.test.", "a.test:0{port}", "a.test:00{port}")
    authorities = [name if "{" in name else f"{name}:{{port}}" for name in spelled]
    urls = [f"http://{authority}{path}" for authority in authorities for path in ("/hook", "?1", "")]
    hanging = await waiting_on_hangs(database, urls, "shop", ["a.test"], most=MAX_OF_ONE_HOST)
    assert len(hanging) == MAX_OF_ONE_HOST


async def test_a_key_whose_receivers_all_hang_leaves_room_for_others(database: Database) -> None:
    names = [f"{number}.test" for number in range(9)]
    urls = [f"http://{name}:{{port}}/" for name in names]
    hanging = await waiting_on_hangs(database, urls, "other", names, most=MAX_OF_ONE_KEY)
    assert len(hanging) == MAX_OF_ONE_KEY


async def test_a_receiver_may_name_the_date_of_the_next_attempt(database: Database, peer: Peer) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(minutes=30), usegmt=True)
    peer.replies = [Reply(status=503, headers={"Retry-After": later})]
    job = await done_job(database, peer.address)
    delivering = deliverer(database, peer.port)
    delivering.start()
    await until(lambda: bool(peer.received))
    async with asyncio.timeout(60):
        while not (it := (await database.read(partial(outbox.of_job, job_id=job.id)))[0]).attempts:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await delivering.stop()
    assert 1700 < it.not_before - time.time() <= 1800


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("", 0),
        ("120", 120),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_S),
        ("Mon, 01 Jan 2001 00:00:00 -0000", 0),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", 0),
        ("Mon, 01 Jan 2001 00:00:00 +99999999", 0),
        ("nan", 0),
        ("soon", 0),
    ],
)
def test_the_pause_that_a_receiver_asks_for_has_bounds(retry_after: str, seconds: float) -> None:
    assert seconds_of(retry_after) == seconds


async def test_a_receiver_that_is_gone_is_not_asked_again(database: Database, peer: Peer) -> None:
    peer.replies = [Reply(status=410)]
    job = await done_job(database, peer.address)
    delivery = await delivered(database, job, deliverer(database, peer.port), state="failed")
    assert len(delivery.attempts) == 1


async def test_after_the_last_delay_it_is_given_up_and_delivered_again_on_demand(
    database: Database, peer: Peer
) -> None:
    peer.replies = [Reply(status=500)]
    job = await done_job(database, peer.address)
    delivery = await delivered(database, job, deliverer(database, peer.port, delays_s=(0.01, 0.01)), state="failed")
    assert len(delivery.attempts) == 3
    peer.replies = [Reply()]
    await database.write(partial(outbox.redeliver, job_id=job.id, delivery_id=delivery.id))
    again = await delivered(database, job, deliverer(database, peer.port))
    assert again.id == delivery.id
    assert [attempt["status"] for attempt in again.attempts] == [500, 500, 500, 200]


async def test_a_webhook_that_is_being_delivered_is_not_sent_twice(database: Database) -> None:
    job = await done_job(database, "http://127.0.0.1/")
    first = await database.write(partial(outbox.take, owner="first", lease_s=60))
    assert first is not None
    redeliver = partial(outbox.redeliver, job_id=job.id, delivery_id=first.id)
    with pytest.raises(NotReady, match="just being delivered"):
        await database.write(redeliver)
    assert await database.write(partial(outbox.take, owner="second", lease_s=60)) is None
    await database.write(partial(outbox.note, delivery=first, attempt={}, state="failed"))
    assert (await database.write(redeliver)).state == "waiting"
    with pytest.raises(NoSuchJob, match="has no webhook 'msg_1'"):
        await database.write(partial(outbox.redeliver, job_id=job.id, delivery_id="msg_1"))


async def test_the_log_of_a_webhook_is_written_by_its_owner_alone_and_has_an_end(database: Database) -> None:
    job = await done_job(database, "http://127.0.0.1/")
    late = await database.write(partial(outbox.take, owner="late", lease_s=-1))
    assert late is not None
    for number in range(outbox.MAX_ATTEMPTS + 2):
        held = await database.write(partial(outbox.take, owner=str(number), lease_s=60))
        assert held is not None
        await database.write(partial(outbox.note, delivery=held, attempt={"n": number}, state="waiting"))
    await database.write(partial(outbox.note, delivery=late, attempt={"n": -1}, state="delivered"))
    (delivery,) = await database.read(partial(outbox.of_job, job_id=job.id))
    assert delivery.state == "waiting"
    assert [attempt["n"] for attempt in delivery.attempts] == list(range(2, outbox.MAX_ATTEMPTS + 2))


async def test_a_webhook_that_a_dead_process_had_taken_is_delivered_by_another(database: Database, peer: Peer) -> None:
    job = await done_job(database, peer.address)
    assert await database.write(partial(outbox.take, owner="dead", lease_s=-1)) is not None
    await delivered(database, job, deliverer(database, peer.port))
    await until(lambda: len(peer.received) == 1)


async def test_only_wanted_events_are_sent(database: Database) -> None:
    job = await added(database, new_job(webhook="http://127.0.0.1"))
    assert await database.read(partial(outbox.of_job, job_id=job.id)) == []
    await ended(database, await taken(database))
    assert [it.event for it in await database.read(partial(outbox.of_job, job_id=job.id))] == ["job.done"]


def test_retries_end_before_the_job_and_its_webhooks_are_removed() -> None:
    assert 18 * 3600 < sum(DELAYS_S) * (1 + JITTER) < Settings().job_ttl_s
    assert list(DELAYS_S) == sorted(DELAYS_S)


def test_the_secrets_are_made_once_and_read_by_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    first = WebhookSecrets.read(path, create=True).of_key("")
    assert WebhookSecrets.read(path, create=True).of_key("") == first
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("short\n")
    with pytest.raises(ValueError, match="24 characters"):
        WebhookSecrets.read(path)
    assert json.dumps(first)


def test_a_disk_that_is_full_keeps_no_half_written_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.jobs.webhooks.os.link", refuse)
    with pytest.raises(OSError, match="No space"):
        WebhookSecrets.read(tmp_path / "secrets", create=True)
    assert list(tmp_path.iterdir()) == []

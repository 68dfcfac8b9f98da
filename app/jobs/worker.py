"""Upscales one picture of a job and stores the result."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

from app.answer import Answer
from app.errors import DeadlinePassed, NoSuchModel, QueueFull, ServiceError, StorageFull, Unavailable
from app.jobs.claims import Claim
from app.jobs.file_names import name_of_result
from app.jobs.job import Result
from app.jobs.store import Store, StoreDown, whole
from app.jobs.transfer import Transfer
from app.jobs.watch import Watch
from app.pictures.size import Size
from app.record import JOB_ROUTE, RequestRecord
from app.service import UpscaleService
from app.settings import Settings
from app.sizing import Urgency
from app.upscaling import OtherVersion, UpscaleRequest

MAX_REFUSALS = 20
"""Number of refusals for passing reasons at which a picture fails."""

MAX_REFUSED = 1000
"""Maximum number of pictures whose refusals are counted; the latest ones are kept."""

FULL_WAIT_S = 30.0
"""Seconds until a picture is retried after its result did not fit on the disk."""

BUSY_WAIT_S = 1.0
"""Seconds until a picture is retried after the service refused it, if the error names no time."""

OTHER_VERSION_WAIT_S = 60.0
"""Seconds until a picture is retried that this version of the service cannot process: a newer one may claim it."""

log = logging.getLogger(__name__)


class GivenBack(Exception):
    """The picture goes back to the queue.

    Args:
        wait_s: seconds until it may be claimed.
    """

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.wait_s = wait_s


class Worker:
    """Does the work of a claim; leases and records are the runner's."""

    def __init__(self, settings: Settings, store: Store, transfer: Transfer, watch: Watch) -> None:
        self._settings = settings
        self._store = store
        self._transfer = transfer
        self._watch = watch
        self._refusals: dict[tuple[str, int], int] = {}
        """Number of refusals by the service in this process, by picture; waits for the store do not count."""

    async def result(self, held: Claim, service: UpscaleService, record: RequestRecord) -> Result:
        """Upscale a picture and store the result.

        Raises:
            GivenBack: it has to wait.
            ServiceError: it cannot be upscaled or stored.
        """
        max_s = self._settings.job_max_s
        try:
            async with asyncio.timeout(max_s), AsyncExitStack() as scope:
                request = UpscaleRequest.from_json(held.job.request)
                picture = await self._picture(held)
                record.received_bytes = len(picture)
                answer = await request.start(scope, service, picture, Urgency(background=True))
                result = await self._stored(held, answer, request.options.size)
                record.sent_bytes = result.size_bytes
                return result
        except TimeoutError as error:
            text = (
                f"the picture was not done within {max_s:g} s, the limit for one picture of a job; send a smaller one"
            )
            raise DeadlinePassed(text) from error
        except (StorageFull, StoreDown) as error:
            raise _wait_for_store(held, error) from error
        except (OtherVersion, NoSuchModel) as error:  # the replica that accepted the job had the option or the model
            if self._refused(held) >= MAX_REFUSALS:
                raise
            log.warning("job %s waits for a replica that can process it: %s", held.job.id, error.detail)
            raise GivenBack(OTHER_VERSION_WAIT_S) from error
        except (QueueFull, Unavailable, DeadlinePassed) as error:  # also a stream ended in favour of others
            if self._refused(held) >= MAX_REFUSALS:
                raise
            raise GivenBack(error.retry_after_s or BUSY_WAIT_S) from error

    async def send(self, held: Claim, result: Result) -> None:
        """Send a result to the target of its picture, if it has one.

        Raises:
            GivenBack: the store is away.
            SourceRefused: the target cannot be written.
        """
        if not held.picture.target:
            return
        chunks = partial(self._store.read, result.name)
        try:
            await self._transfer.send(held.picture.target, chunks, result.size_bytes, result.media_type)
        except StoreDown as error:
            raise _wait_for_store(held, error) from error

    def _refused(self, held: Claim) -> int:
        """Count a refusal; returns the number so far."""
        picture = held.picture.job_id, held.picture.number
        self._refusals[picture] = count = self._refusals.pop(picture, 0) + 1
        while len(self._refusals) > MAX_REFUSED:
            del self._refusals[next(iter(self._refusals))]
        return count

    async def _picture(self, held: Claim) -> bytes:
        if held.picture.source:
            return await self._transfer.fetch(held.picture.source, self._settings.max_upload_bytes)
        return await whole(self._store.read(held.picture.upload_name))

    async def _stored(self, held: Claim, answer: Answer, size: Size) -> Result:
        digest = hashlib.blake2b(digest_size=16)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in answer.pieces:
                digest.update(piece)
                self._watch.publish(held.job.id, held.picture.number, answer.progress())
                yield piece

        size_bytes = await self._store.put(held.result_name, pieces())
        return Result(
            name=held.result_name,
            size_bytes=size_bytes,
            etag=f'"{digest.hexdigest()}"',
            media_type=answer.format.media_type,
            model=answer.model.version,
            notes=answer.notes,
            file_name=name_of_result(held.picture.file_name, answer, size),
        )


def _wait_for_store(held: Claim, error: ServiceError) -> GivenBack:
    log.warning("job %s waits for the store: %s", held.job.id, error.reason)
    return GivenBack(FULL_WAIT_S)


def record_of(held: Claim) -> RequestRecord:
    """Return a record of the work on a picture, in the trace of the request that submitted it."""
    return RequestRecord(
        id=held.job.request_id,
        job=held.job.id,
        method="JOB",
        path=f"/v1/jobs/{held.job.id}/results/{held.picture.number}",
        route=JOB_ROUTE,
        key=held.job.key_name,
        accepted_px=held.picture.cost_px,
        trace_headers=held.job.trace,
    )

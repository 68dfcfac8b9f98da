"""Jobs finish, fail, are cancelled or expire in any mixture: each is settled once, and nothing leaks."""

import asyncio
import itertools
from contextlib import suppress
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching.scheduler import Scheduler
from app.batching.ticket import Outcome, Ticket, Withdrawn
from app.errors import DeadlinePassed, QueueFull, ReadTooSlowly, Unavailable
from tests.app.batching.engine import FakeEngine, FakeInput, all_parts, large, make_scheduler, small

RAISED = {
    Outcome.FAILED: (ArithmeticError, Unavailable),
    Outcome.WITHDRAWN: (Withdrawn,),
    Outcome.EXPIRED: (DeadlinePassed, ReadTooSlowly),
}


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One request and its behaviour."""

    bands: int
    """Number of bands; 0 for a small picture."""
    bucket: int
    late_bands: int
    breaks_in: int | None
    patience_s: float | None
    reads: bool
    """Callers that do not read leave at the end."""
    leaves_after: int | None
    """Rounds of the event loop until the caller leaves, if it does."""


CALLERS = st.builds(
    Caller,
    bands=st.integers(0, 6),
    bucket=st.integers(0, 2),
    late_bands=st.integers(0, 2),
    breaks_in=st.none() | st.none() | st.integers(0, 4),
    patience_s=st.none() | st.none() | st.floats(0, 60),
    reads=st.booleans() | st.just(True),
    leaves_after=st.none() | st.none() | st.integers(0, 40),
)


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def behave(caller: Caller, ticket: Ticket[str]) -> list[str]:
    """Return the caller's output, or raise its error."""
    if caller.reads and caller.leaves_after is None:
        return await all_parts(ticket)
    reader = asyncio.create_task(all_parts(ticket)) if caller.reads else None
    await turns_of_the_loop(caller.leaves_after or 1000)
    if reader is not None:
        reader.cancel()
        return await reader
    ticket.close()
    return await all_parts(ticket)


def submit(scheduler: Scheduler[FakeInput, str], engine: FakeEngine, name: str, caller: Caller) -> Ticket[str]:
    deadline_s = None if caller.patience_s is None else engine.clock() + caller.patience_s
    if caller.breaks_in is not None:
        engine.breaks[name] = caller.breaks_in
    if caller.bands:
        job = large(name, px=256 * caller.bands, late_bands=caller.late_bands, deadline_s=deadline_s)
    else:
        job = small(name, bucket=caller.bucket, deadline_s=deadline_s)
    return scheduler.submit(job)


async def run(callers: list[Caller], *, s_per_px: float, drain_s: float) -> None:
    engine = FakeEngine()
    engine.s_per_px = s_per_px
    scheduler = make_scheduler(engine, piece_s=400 * s_per_px)
    tickets: dict[str, tuple[Caller, Ticket[str]]] = {}
    for number, caller in enumerate(callers):
        with suppress(QueueFull):  # it could not be done in time
            tickets[f"{number}."] = caller, submit(scheduler, engine, f"{number}.", caller)
    behaviour = [behave(caller, ticket) for caller, ticket in tickets.values()]
    answers = asyncio.gather(*behaviour, return_exceptions=True)
    if drain_s:
        await answers  # before the shutdown
    await turns_of_the_loop(5)
    await scheduler.stop(drain_s)
    for (name, (caller, ticket)), answer in zip(tickets.items(), await answers, strict=True):
        check(name, ticket, caller, answer)
    await asyncio.to_thread(scheduler._device._pool.shutdown)
    ended = scheduler.counters()
    assert ended.outcomes.total() == len(tickets)
    assert (ended.queued, ended.queued_px, ended.open_streams) == (0, 0, 0)
    assert not engine.open
    assert engine.most_open <= 2
    assert sorted(engine.closed) == sorted(engine.bands_px)


def check(name: str, ticket: Ticket[str], caller: Caller, answer: list[str] | BaseException) -> None:
    assert ticket.outcome is not None
    if isinstance(answer, asyncio.CancelledError):
        assert caller.leaves_after is not None or not caller.reads
    elif ticket.outcome is Outcome.DONE:
        assert answer == ([f"{name}{band}" for band in range(caller.bands)] if caller.bands else [name.upper()])
    else:
        assert type(answer) in RAISED[ticket.outcome]


@settings(max_examples=60, deadline=None)
@given(
    callers=st.lists(CALLERS, max_size=12),
    s_per_px=st.sampled_from((0.01, 1e-6)),
    drain_s=st.sampled_from((0.0, 10.0)),
)
def test_every_job_is_settled_once(callers: list[Caller], s_per_px: float, drain_s: float) -> None:
    asyncio.run(asyncio.wait_for(run(callers, s_per_px=s_per_px, drain_s=drain_s), 30))


def test_the_same_with_all_kinds_of_callers_at_once() -> None:
    kinds = itertools.product((0, 3), (None, 1), (None, 5.0), (True, False), (None, 7))
    callers = [
        Caller(bands=b, bucket=0, late_bands=1, breaks_in=e, patience_s=p, reads=r, leaves_after=t)
        for b, e, p, r, t in kinds
    ]
    asyncio.run(asyncio.wait_for(run(callers, s_per_px=0.01, drain_s=10.0), 30))

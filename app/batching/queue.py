"""All works that wait or run: admits them, chooses what runs next, and ends each of them once."""

import asyncio
import enum
from collections.abc import Callable
from functools import partial
from typing import Any, Generic

from app.batching.backlog import Backlog, Place
from app.batching.cost import CostModel
from app.batching.fair_queue import Turns
from app.batching.job import Engine, Input, Output, Work
from app.batching.open_streams import OpenStreams
from app.batching.pieces import Bands, Piece, Request
from app.batching.ticket import Outcome, Ticket, Withdrawn
from app.errors import DeadlinePassed

FIRST_PIECE_PX = 64 * 64
"""Size of pieces while nothing is known of how long they take."""

MOST_UNREAD = 3
"""Parts that a stream runs ahead of its reader."""


class StreamLane(enum.Enum):
    """Where streams wait for their turns; the works of one bucket wait in a lane of their own."""

    NEW = "new"
    OPEN = "open"


class Queue(Generic[Input, Output]):
    """The requests and their turns.

    Args:
        changed: called when there may be something new to choose from.
        ended: called with each request when it is settled.
    """

    def __init__(
        self,
        engine: Engine[Input, Output],
        costs: CostModel,
        backlog: Backlog,
        open_streams: OpenStreams[Request[Input, Output]],
        *,
        piece_s: float,
        clock: Callable[[], float],
        changed: Callable[[], None],
        ended: Callable[[Request[Input, Output]], None],
    ) -> None:
        self._engine = engine
        self._costs = costs
        self._backlog = backlog
        self._open = open_streams
        self._piece_s = piece_s
        self._clock = clock
        self._changed = changed
        self._ended = ended
        self._turns: Turns[Request[Input, Output]] = Turns()
        self._requests: set[Request[Input, Output]] = set()

    def __len__(self) -> int:
        return len(self._requests)

    def reserve(self, work: Work[Any]) -> Place:
        """Keep a place for a work of which only the size is known yet.

        Raises:
            QueueFull: too much waits already, altogether or for its deadline.
        """
        self._check(work)
        return self._backlog.reserve(work.cost_key, work.cost_px)

    def add(self, work: Work[Input], place: Place | None = None) -> Ticket[Output]:
        """Accept a work, in the place that was kept for it, if one was.

        Raises:
            QueueFull: no place was kept, and too much waits already.
        """
        if place is None:
            self._check(work)
        else:
            place.give_back()
        request: Request[Input, Output] = Request(work=work, submitted_s=self._clock())
        request.ticket = Ticket(
            work.cost_px, on_read=partial(self.line_up, request), on_leave=partial(self._withdraw, request)
        )
        if work.deadline_s is not None:
            in_s = max(0.0, work.deadline_s - request.submitted_s)
            request.expiry = asyncio.get_running_loop().call_later(in_s, self.expire, request)
        self._requests.add(request)
        self._backlog.add(work.cost_key, work.cost_px)
        self._turns.join(request, StreamLane.NEW if work.bucket is None else work.cost_key, work.deadline_s)
        self._changed()
        return request.ticket

    def _check(self, work: Work[Any]) -> None:
        self._backlog.check(work.cost_px)
        if work.deadline_s is not None:
            within_s = work.deadline_s - self._clock()
            self._backlog.check_in_time(work.cost_px, works=len(self._requests), within_s=within_s)

    def next_piece(self) -> Piece[Input, Output] | None:
        """Take the request whose turn it is, joined by those of its bucket that fit; None where none may run now."""
        if not self._next_stream_fits():
            self._end_a_held_stream()
        first = self._turns.first(skip=None if self._next_stream_fits() else StreamLane.NEW)
        if first is None:
            return None
        return self._next_band(first) if first.work.bucket is None else self._next_batch(first)

    def line_up(self, request: Request[Input, Output]) -> None:
        """A stream that has run a band, or was read, waits for its next turn, unless its reader has enough to take."""
        if request.ticket.unread + request.in_flight < MOST_UNREAD:
            if self._open.release(request, self._clock()):
                self._turns.catch_up(request)
            self._turns.wait(request, StreamLane.OPEN)
            self._changed()
        elif not request.in_flight:
            self._open.hold(request, self._clock())

    def run_alone(self, request: Request[Input, Output]) -> None:
        """A whole work whose batch failed waits for another turn, in a lane of its own."""
        request.alone = True
        self._turns.wait(request, request)

    def patience_s(self) -> float | None:
        """Seconds until `next_piece` may end a stream that its reader holds up; None where nobody wants its memory."""
        held = self._open.longest_held(self._clock())
        return None if held is None or self._next_stream_fits() else max(0.0, held[1])

    def advance(self, request: Request[Input, Output], px: int) -> None:
        """So many LR px of a request went through the device."""
        request.ticket.done_px += px
        self._backlog.remove(request.work.cost_key, px)

    def settle(self, request: Request[Input, Output], outcome: Outcome, error: Exception | None = None) -> None:
        """End a request that is not settled yet, wherever it is."""
        request.ticket.settle(outcome, error)
        if request.expiry is not None:
            request.expiry.cancel()
        self._requests.discard(request)
        self._turns.leave(request)
        self._open.give_back(request)
        self._backlog.remove(request.work.cost_key, request.left_px)
        self._ended(request)
        self._changed()

    def expire(self, request: Request[Input, Output]) -> None:
        """End a request whose deadline has passed."""
        progress = f"{request.ticket.done_px} of {request.work.cost_px} px were done"
        late = DeadlinePassed(f"{progress} when the deadline passed; allow more time, or try again when less waits")
        self.settle(request, Outcome.EXPIRED, late)

    def settle_all(self, error: Callable[[], Exception]) -> None:
        """End all requests as failed."""
        for request in list(self._requests):
            self.settle(request, Outcome.FAILED, error())

    def _withdraw(self, request: Request[Input, Output]) -> None:
        self.settle(request, Outcome.WITHDRAWN, Withdrawn("the caller of this work withdrew it"))

    def _next_stream_fits(self) -> bool:
        """Whether the first of the streams that want to open may; the others wait behind it, or it never could."""
        first = next(self._turns.line(StreamLane.NEW), None)
        return first is None or self._open.fits(first.work.held_bytes)

    def _end_a_held_stream(self) -> None:
        held = self._open.longest_held(self._clock())
        if held is not None and held[1] <= 0:
            slow = DeadlinePassed(
                "the answer was read too slowly while others waited; read it faster, or try again later"
            )
            self.settle(held[0], Outcome.EXPIRED, slow)

    def _next_batch(self, first: Request[Input, Output]) -> Piece[Input, Output]:
        most_px = self._piece_px(first.work)
        requests: list[Request[Input, Output]] = []
        px = 0
        for request in [first] if first.alone else self._turns.line(first.work.cost_key):
            if requests and px + request.work.cost_px > most_px:
                break
            requests.append(request)
            px += request.work.cost_px
        self._turns.serve(requests, [request.work.cost_px for request in requests])
        return Piece(requests=requests, px=px)

    def _next_band(self, request: Request[Input, Output]) -> Piece[Input, Output]:
        if request.bands is None:
            work = request.work
            rows = max(work.least_rows, min(self._piece_px(work), work.cost_px) // work.row_px)
            request.bands = Bands(self._engine, work, work.row_px * _rounded(rows))
            self._open.take(request, work.held_bytes)
        self._turns.serve([request], [request.bands.band_px])
        return Piece(requests=[request], px=request.bands.band_px)

    def _piece_px(self, work: Work[Input]) -> int:
        px = self._costs.px_within(work.cost_key, self._piece_s)
        return min(self._engine.most_px(work.input), FIRST_PIECE_PX if px is None else px)


def _rounded(rows: int) -> int:
    """Down to 1, 2, 3, 4, 6, 8, 12, 16, 24 ...: bands of one width have few shapes, which a device may prepare for."""
    power: int = 1 << (rows.bit_length() - 1)
    half_more = power + power // 2
    return half_more if half_more <= rows else power

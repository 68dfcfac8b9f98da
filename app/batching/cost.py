"""Cost model: the time of a piece is a · LR px + b, learned from every piece that ran."""

import math
from collections.abc import Hashable
from dataclasses import dataclass

DECAY = 0.9
"""Exponential decay: roughly the last ten samples matter, so a device that slows down is noticed soon."""

MAX_SURPRISE = 4.0
"""A sample is clipped to between 1 / this and this times its prediction."""

MAX_GROWTH = 4
"""Maximum size of a piece, as a multiple of the largest measured one: the line is not trusted further out."""

DAMPING = 0.02
"""Regularisation: keeps b near 0 when all samples have similar size (a and b are then not identifiable)."""

MIN_SAMPLES = 3
"""Samples of a bucket before its own line is used."""

MAX_LINES = 1000
"""Maximum number of lines kept; the one updated least recently is dropped first."""

CostKey = tuple[Hashable, ...]
"""Key of a line, from the general to the specific: (kind, bucket)."""


@dataclass(kw_only=True)
class LinearFit:
    """A least-squares fit of seconds = a · px + b to the latest pieces, weighted by their relative errors."""

    seconds_per_px: float = 0.0
    fixed_s: float = 0.0
    count: int = 0
    largest_px: int = 0
    _w: float = 0.0
    _wx: float = 0.0
    _wy: float = 0.0
    _wxx: float = 0.0
    _wxy: float = 0.0

    def seconds(self, px: int) -> float:
        """Return the predicted duration of a piece."""
        return self.seconds_per_px * px + self.fixed_s

    def add(self, px: int, seconds: float) -> None:
        """Learn from a piece.

        Now and then a piece takes many times as long: the first of its shape, or one that was interrupted by something
        else on the machine. So each sample is clipped; if the next ones agree with it, the line follows.
        """
        seconds = max(seconds, 1e-6)
        expected_s = self.seconds(px) or seconds
        seconds = min(max(seconds, expected_s / MAX_SURPRISE), expected_s * MAX_SURPRISE)
        self.count += 1
        self.largest_px = max(self.largest_px, px)
        weight = expected_s**-2
        self._w = DECAY * self._w + weight
        self._wx = DECAY * self._wx + weight * px
        self._wy = DECAY * self._wy + weight * seconds
        self._wxx = DECAY * self._wxx + weight * px * px
        self._wxy = DECAY * self._wxy + weight * px * seconds
        self._solve()

    def _solve(self) -> None:
        determinant = (1 + DAMPING) * self._w * self._wxx - self._wx**2
        self.fixed_s = max(0.0, (self._wy * self._wxx - self._wxy * self._wx) / determinant)
        self.seconds_per_px = (self._wxy - self.fixed_s * self._wx) / self._wxx
        if self.seconds_per_px < 0:
            self.seconds_per_px, self.fixed_s = 0.0, self._wy / self._w

    def px_within(self, seconds: float) -> int:
        """Return the px of the largest piece that takes at most this long, or at most 2 b if that is longer."""
        max_px = MAX_GROWTH * self.largest_px
        for_px_s = max(seconds, 2 * self.fixed_s) - self.fixed_s
        return int(min(max_px, for_px_s / self.seconds_per_px)) if self.seconds_per_px else max_px


class CostModel:
    """One line per bucket, and one per kind for buckets with too few samples."""

    def __init__(self) -> None:
        self._lines: dict[CostKey, LinearFit] = {}

    def observe(self, key: CostKey, px: int, seconds: float) -> None:
        """Learn from a piece that ran without an error."""
        for depth in range(1, len(key) + 1):
            line = self._lines.pop(key[:depth], None) or LinearFit()
            line.add(px, seconds)
            self._lines[key[:depth]] = line  # at the end: updated most recently
        while len(self._lines) > MAX_LINES:
            del self._lines[next(iter(self._lines))]

    def seconds(self, key: CostKey, px: int) -> float | None:
        """Return the predicted duration of a piece; None while nothing is known of its kind."""
        line = self._line(key)
        return None if line is None else line.seconds(px)

    def px_within(self, key: CostKey, seconds: float) -> int | None:
        """Return `LinearFit.px_within` for a kind of pieces; None while nothing is known of it."""
        line = self._line(key)
        return None if line is None else line.px_within(seconds)

    def drain_s(self, key: CostKey, px: int, piece_s: float) -> float | None:
        """Return the predicted time for `px` in pieces of `piece_s`; None while nothing is known of their kind."""
        line = self._line(key)
        if line is None:
            return None
        pieces = math.ceil(px / max(1, line.px_within(piece_s)))
        return px * line.seconds_per_px + pieces * line.fixed_s

    def _line(self, key: CostKey) -> LinearFit | None:
        for depth in range(len(key), 1, -1):
            line = self._lines.get(key[:depth])
            if line is not None and line.count >= MIN_SAMPLES:
                return line
        return self._lines.get(key[:1])

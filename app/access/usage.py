"""Usage of each key, counted against its limits."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.access.keys import Key
from app.errors import KeyLimit

MINUTE_S = 60.0

MAX_LONG_LIVED = 16
"""Maximum requests without a deadline of one key at a time, unless its `concurrent` is larger."""


class TokenBucket:
    """A token bucket with a capacity of one minute that may be overdrawn.

    The cost of a picture is known only after its request has been accepted. So a request needs one token, and its cost
    is taken later. A picture may cost more than a minute's tokens; the next request then waits until the debt is
    refilled.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._clock = clock
        self._tokens = self._capacity
        self._updated_s = clock()

    def wait_s(self) -> float:
        """Return the seconds until there is a token; 0 if there is one."""
        now_s = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now_s - self._updated_s) * self._capacity / MINUTE_S)
        self._updated_s = now_s
        return max(0.0, (1 - self._tokens) * MINUTE_S / self._capacity)

    def take(self, tokens: int) -> None:
        """Consume tokens."""
        self._tokens -= tokens


class Usage:
    """Usage of one key. Belongs to the event loop."""

    def __init__(self, key: Key, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits = key.limits
        self._name = key.name
        self.running = 0
        """Requests that were accepted and are not answered yet."""
        self.long_lived = 0
        """Requests without a deadline, which do not count as running."""
        self._requests = None if limits.requests_per_minute is None else TokenBucket(limits.requests_per_minute, clock)
        self._px = None if limits.px_per_minute is None else TokenBucket(limits.px_per_minute, clock)

    def begin(self) -> None:
        """Count a new request.

        Raises:
            KeyLimit: it would exceed one of the key's limits.
        """
        if self.limits.concurrent is not None and self.running >= self.limits.concurrent:
            raise KeyLimit(
                f"{self.running} requests of the key {self._name} are running, and its limit is concurrent="
                f"{self.limits.concurrent}; wait for one to end",
                retry_after_s=1,
            )
        for limit, allowance in (("requests_per_minute", self._requests), ("px_per_minute", self._px)):
            if allowance is not None and (wait_s := allowance.wait_s()) > 0:
                raise KeyLimit(
                    f"the key {self._name} has used up its limit {limit}={getattr(self.limits, limit)}; "
                    f"try again in {math.ceil(wait_s)} s",
                    retry_after_s=math.ceil(wait_s),
                )
        self.running += 1
        if self._requests is not None:
            self._requests.take(1)

    @contextmanager
    def counting_long_lived(self) -> Iterator[None]:
        """Within the block, count a request without a deadline, such as a stream of events.

        Raises:
            KeyLimit: the key has too many of these.
        """
        most = max(MAX_LONG_LIVED, self.limits.concurrent or 0)
        if self.long_lived >= most:
            raise KeyLimit(
                f"the key {self._name} lists jobs, watches them or fetches results in {self.long_lived} requests, "
                "which is the limit; wait for one to end",
                retry_after_s=1,
            )
        self.long_lived += 1
        try:
            yield
        finally:
            self.long_lived -= 1

    def end(self, px: int) -> None:
        """Count the end of a request.

        Args:
            px: LR px of its picture times the passes through the network.
        """
        self.running -= 1
        self.charge(px)

    def charge(self, px: int) -> None:
        """Charge LR px, also those that no request waits for."""
        if self._px is not None:
            self._px.take(px)

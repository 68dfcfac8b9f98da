"""What each key has used of its limits."""

import math
import time
from collections.abc import Callable

from app.access.keys import Key, Limits
from app.errors import KeyLimit

MINUTE_S = 60.0


class Allowance:
    """So many units a minute. It may be overdrawn, and then has to fill up before there is another one.

    What a picture costs is known only after it was let in: so what is asked is whether there is anything left, and what
    it costs is taken later. A picture that costs more than a minute's worth is possible, and paid for by waiting.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._most = float(per_minute)
        self._clock = clock
        self._left = self._most
        self._at_s = clock()

    def wait_s(self) -> float:
        """Seconds until there is a unit left; 0 where there is one."""
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._most / MINUTE_S)
        self._at_s = now_s
        return max(0.0, (1 - self._left) * MINUTE_S / self._most)

    def take(self, units: int) -> None:
        """So many were used."""
        self._left -= units


class Usage:
    """What the requests of one key use. Belongs to the event loop."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.running = 0
        """Requests that were let in and are not answered yet."""
        self._requests = None if limits.requests_per_minute is None else Allowance(limits.requests_per_minute, clock)
        self._px = None if limits.px_per_minute is None else Allowance(limits.px_per_minute, clock)

    def begin(self, key: Key) -> None:
        """Let a request in.

        Raises:
            KeyLimit: it would pass one of the key's limits.
        """
        if self.limits.concurrent is not None and self.running >= self.limits.concurrent:
            raise KeyLimit(
                f"{self.running} requests of the key {key.name} are running, and its limit is concurrent="
                f"{self.limits.concurrent}; wait for one to end",
                retry_after_s=1,
            )
        for limit, allowance in (("requests_per_minute", self._requests), ("px_per_minute", self._px)):
            if allowance is not None and (wait_s := allowance.wait_s()) > 0:
                raise KeyLimit(
                    f"the key {key.name} has used up its limit {limit}={getattr(self.limits, limit)}; "
                    f"try again in {math.ceil(wait_s)} s",
                    retry_after_s=math.ceil(wait_s),
                )
        self.running += 1
        if self._requests is not None:
            self._requests.take(1)

    def end(self, px: int) -> None:
        """A request was answered.

        Args:
            px: LR px of its picture, as often as they went through the network.
        """
        self.running -= 1
        if self._px is not None:
            self._px.take(px)

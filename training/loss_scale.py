"""The scale of losses in float16, in which small gradients would become zero and large ones infinite."""

from collections.abc import Mapping

FIRST = 2.0**16
GROWS_AFTER = 2_000
"""Steps in a row without an overflow after which the scale is doubled; torch's `GradScaler` takes as many."""


class LossScale:
    """Halves at a step whose gradients overflow, doubles after many that do not.

    torch's `GradScaler` decides for each optimiser; here a step moves both networks or none.

    Args:
        needed: False for formats with float32's range, whose scale stays 1.
    """

    def __init__(self, *, needed: bool) -> None:
        self.needed = needed
        self.value = FIRST if needed else 1.0
        self._good_steps = 0

    def count_step(self) -> None:
        """Count a step whose gradients were finite."""
        if not self.needed:
            return
        self._good_steps += 1
        if self._good_steps == GROWS_AFTER:
            self.value *= 2
            self._good_steps = 0

    def lower(self) -> bool:
        """Halve the scale after an overflow; returns False at a scale of 1, which cannot be the cause."""
        self._good_steps = 0
        if self.value <= 1:
            return False
        self.value /= 2
        return True

    def state(self) -> dict[str, float]:
        """Return what `restore` needs."""
        return {"value": self.value, "good_steps": self._good_steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue where `state()` was taken, if this device needs a scale.

        A scale of 1 is ignored: it comes from a device that needed none, or is too small to be useful.
        """
        if self.needed and state["value"] > 1:
            self.value, self._good_steps = state["value"], int(state["good_steps"])

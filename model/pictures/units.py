"""Limit the units of coded data, OBUs of AV1 and NAL units of HEVC, that are read of all pictures of a file."""

from model.pictures.errors import OverLimit

MAX_UNITS = 20_000
"""Maximum units of a file: pictures have three or four, and one for each slice; there are up to 1,000 pictures."""


class Units:
    """Counts the units of a file: many of its pictures may share the same ones."""

    def __init__(self) -> None:
        self._number = 0

    def count(self) -> None:
        """Count one more.

        Raises:
            OverLimit: more than `MAX_UNITS`.
        """
        self._number += 1
        if self._number > MAX_UNITS:
            raise OverLimit(
                f"the pictures of the AVIF or HEIC have more than {MAX_UNITS} OBUs or NAL units in all, which is the "
                "limit; save it again"
            )

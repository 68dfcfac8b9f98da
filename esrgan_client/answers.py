"""Answers of the service: pictures, and the headers that describe them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from esrgan_client.calls import PictureFile, part_file, target_file


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Facts about an upscaled picture: how it was made, and how it differs from the upload; see docs/api.md."""

    format: str
    """Format of the file, such as `png`; `zip` for several pictures of a job."""
    model: str
    """Name of the model, `@`, and the first digits of its weights' SHA-256."""
    frames: int
    """Pictures in the upload."""
    shown: int
    """Number of them that the answer shows."""
    left_out: Sequence[str]
    """Names of properties of the upload that the format cannot hold, such as `transparency`."""
    upload_format: str
    """Format of the upload, if the answer should have the same and has another; else empty."""
    request_id: str
    """Id of the request in the operator's log."""

    @classmethod
    def of(cls, headers: Mapping[str, str], **more: Any) -> Self:
        """Read the headers of an answer.

        Args:
            more: further fields of the class.
        """
        shown, _, frames = headers.get("X-Frames", "1 of 1").partition(" of ")
        return cls(
            format=headers.get("Content-Type", "").partition(";")[0].rpartition("/")[2],
            model=headers.get("X-Model", ""),
            frames=int(frames),
            shown=int(shown),
            left_out=[name for name in headers.get("X-Left-Out", "").split(", ") if name],
            upload_format=headers.get("X-Format", "").partition("upload=")[2],
            request_id=headers.get("X-Request-Id", ""),
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class Picture(Answer):
    """An upscaled picture in memory."""

    content: bytes = field(repr=False)
    """The file."""

    def save(self, target: PictureFile) -> Path:
        """Write the picture to a file, which appears when it is complete; returns its path.

        Raises:
            OSError: it cannot be written.
        """
        path = target_file(target)
        with part_file(path) as file:
            file.write(self.content)
        return path

"""The cost of a file: its limits, checked before the work that they bound."""

from dataclasses import dataclass

from model.pictures.errors import OverLimit


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that one file may cost."""

    max_picture_px: int
    max_width_px: int
    """Maximum width of the upright picture."""
    max_frames: int
    max_metadata_bytes: int
    """Maximum size of each part that is read and has no pixels, such as a profile."""
    max_expansion: int
    """Maximum pixels per byte of the file."""

    def check_size(self, width: int, height: int, upload_bytes: int) -> None:
        """Refuse what the header announces before it is decoded.

        Raises:
            OverLimit: too many pixels, or too many for each byte of the file.
        """
        px = width * height
        if px > self.max_picture_px:
            raise OverLimit(
                f"the picture has {width} x {height} = {px} px; the limit is {self.max_picture_px} px; "
                "send a smaller one or parts of it"
            )
        if px > self.max_expansion * upload_bytes:
            raise OverLimit(
                f"the picture has {px} px in {upload_bytes} bytes; the limit is {self.max_expansion} px a byte; "
                "save it with less compression"
            )

    def check_width(self, width: int) -> None:
        """Refuse what is too wide when upright.

        Raises:
            OverLimit: it is.
        """
        if width > self.max_width_px:
            raise OverLimit(f"it is {width} px wide; the limit is {self.max_width_px} px; send parts of it")

    def check_frames(self, frames: int) -> int:
        """Refuse too many frames.

        Raises:
            OverLimit: they are.
        """
        if frames > self.max_frames:
            raise OverLimit(
                f"the file has more than {self.max_frames} frames, which is the limit; send its first one alone"
            )
        return frames

    def check_metadata(self, what: str, size_bytes: int) -> None:
        """Refuse a single piece of a file, other than its pixels, that is too large.

        Raises:
            OverLimit: it is.
        """
        if size_bytes > self.max_metadata_bytes:
            raise OverLimit(
                f"{what} has {size_bytes} bytes; the limit is {self.max_metadata_bytes} bytes; "
                "save the picture without it"
            )

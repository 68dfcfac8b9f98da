"""What an upload may cost, which is checked before the work that it would cause."""

from dataclasses import dataclass, fields

from app.errors import TooLarge
from app.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The settings of the same names."""

    max_picture_px: int
    max_width_px: int
    max_frames: int
    max_metadata_bytes: int
    max_expansion: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Those that the settings hold."""
        return cls(**{limit.name: getattr(settings, limit.name) for limit in fields(cls)})

    def check_size(self, width: int, height: int, upload_bytes: int) -> None:
        """Refuse what the header announces before it is decoded.

        Raises:
            TooLarge: too many pixels, or so many for so few bytes that hardly anything can be in them.
        """
        px = width * height
        if px > self.max_picture_px:
            raise TooLarge(
                f"the picture has {width} x {height} = {px} px; the limit is {self.max_picture_px} px; "
                "send a smaller one or parts of it"
            )
        if px > self.max_expansion * upload_bytes:
            raise TooLarge(
                f"the picture has {px} px in {upload_bytes} bytes; the limit is {self.max_expansion} px a byte; "
                "save it with less compression"
            )

    def check_width(self, width: int) -> None:
        """Refuse what is too wide when upright.

        Raises:
            TooLarge: it is.
        """
        if width > self.max_width_px:
            raise TooLarge(f"it is {width} px wide; the limit is {self.max_width_px} px; send parts of it")

    def check_frames(self, frames: int) -> int:
        """Refuse too many frames.

        Raises:
            TooLarge: they are.
        """
        if frames > self.max_frames:
            raise TooLarge(
                f"the file has more than {self.max_frames} frames, which is the limit; send its first one alone"
            )
        return frames

    def check_metadata(self, what: str, size_bytes: int) -> None:
        """Refuse a single piece of a file, other than its pixels, that is too large.

        Raises:
            TooLarge: it is.
        """
        if size_bytes > self.max_metadata_bytes:
            raise TooLarge(
                f"{what} has {size_bytes} bytes; the limit is {self.max_metadata_bytes} bytes; "
                "save the picture without it"
            )

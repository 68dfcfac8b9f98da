"""What a file says beside its pixels: what of it is kept, and what is made true for the answer."""

from typing import Literal

MetadataRule = Literal["keep", "keep-gps", "strip"]
"""Keep all but the place, keep all, or keep only what the pixel values mean (the colour profile)."""

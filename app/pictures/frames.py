"""Decode the frames of an animated upload, each different one once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy

from app.pictures.decode import answered, decode, upright
from app.pictures.picture import Metadata, Picture
from app.pictures.png_chunks import MetadataRule
from model.pictures.animation import read_frames
from model.pictures.limits import Limits
from model.pictures.samples import Samples


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture that is shown for a while."""

    picture: int
    """Its index in `Animation.pictures`."""
    duration_ms: float


@dataclass(frozen=True, kw_only=True)
class Animation:
    """A decoded animation."""

    pictures: Sequence[Picture]
    """The different ones, in the order in which they are first shown; all of one size."""
    shown: Sequence[Shown]
    """In order; successive ones are different."""
    plays: int
    """Number of plays; 0 for endless."""
    metadata: Metadata

    @property
    def first(self) -> Picture:
        """The first picture, with what is true of all: the metadata, and whether any is transparent."""
        transparent = next((picture for picture in self.pictures if picture.transparent), self.pictures[0])
        return replace(transparent, metadata=self.metadata)


def decode_animation(upload: bytes, limits: Limits, metadata: MetadataRule) -> Animation:
    """Decode all frames of an upload.

    Raises:
        UnsupportedFormat: a PNG of more than 8 bits.
        TooLarge: more than the limits allow, according to the header.
        Unprocessable: truncated or corrupt.
    """
    still = decode(upload, limits, metadata)
    places = dict[bytes, int]()
    pictures, shown = list[Picture](), list[Shown]()
    with answered():
        found = read_frames(upload, limits)
        for frame in found.frames:
            digest = _digest(frame.samples)
            place = places.setdefault(digest, len(pictures))
            if place == len(pictures):
                pictures.append(upright(frame.samples, found.orientation))
            if shown and shown[-1].picture == place:
                shown[-1] = replace(shown[-1], duration_ms=shown[-1].duration_ms + frame.duration_ms)
            else:
                shown.append(Shown(picture=place, duration_ms=frame.duration_ms))
    grey, neutral = all(picture.grey for picture in pictures), all(picture.neutral for picture in pictures)
    pictures = [replace(picture, grey=grey, neutral=neutral) for picture in pictures]
    return Animation(pictures=pictures, shown=shown, plays=found.plays, metadata=still.metadata)


def _digest(samples: Samples) -> bytes:
    digest = hashlib.blake2b(numpy.ascontiguousarray(samples.colour).data, digest_size=16)
    if samples.alpha is not None:
        digest.update(numpy.ascontiguousarray(samples.alpha).data)
    return digest.digest()

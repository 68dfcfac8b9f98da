"""Decodes an upload to a `Picture`: upright samples from `model.pictures`, and the metadata that an answer repeats."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy

from app.errors import ServiceError, TooLarge, Unavailable, Unprocessable, UnsupportedFormat
from app.pictures.metadata import metadata_of
from app.pictures.picture import Picture, is_neutral, max_level, planes_of
from app.pictures.png_chunks import MetadataRule, PngChunks
from model.pictures import reading
from model.pictures.errors import Damaged, NotAccepted, OverLimit, PictureError
from model.pictures.limits import Limits
from model.pictures.picture_file import Header
from model.pictures.reading import SUFFIXES, prepare_decoders
from model.pictures.samples import Samples, turned

__all__ = ["SUFFIXES", "Header", "decode", "prepare_decoders", "read_header"]

ANSWERS: Mapping[type[PictureError], type[ServiceError]] = {
    OverLimit: TooLarge,
    NotAccepted: UnsupportedFormat,
    Damaged: Unprocessable,
}
"""The error that a caller gets for each reason not to read a file."""


def read_header(upload: bytes, limits: Limits) -> Header:
    """Read the header of an upload.

    Raises:
        UnsupportedFormat: not a supported image format.
        TooLarge: more than the limits allow.
        Unprocessable: the header is corrupt.
        Unavailable: there is no memory for it now.
    """
    with answered():
        return reading.read_header(upload, limits)


def decode(upload: bytes, limits: Limits, metadata: MetadataRule = "keep") -> Picture:
    """Decode the first picture of an upload, upright.

    Raises:
        UnsupportedFormat: not a supported image format.
        TooLarge: more than the limits allow, according to the header.
        Unprocessable: truncated or corrupt.
        Unavailable: there is no memory for it now.
    """
    with answered():
        chunks = PngChunks(max_text_bytes=limits.max_metadata_bytes, rule=metadata)
        file = reading.read(upload, limits, chunks.reads)
        picture = upright(file.samples, file.orientation)
        limits.check_width(picture.width)
        kept = metadata_of(file, upload, metadata, chunks)
        return replace(picture, file_bits=file.bits, metadata=kept, frames=file.frames)


def upright(samples: Samples, orientation: int) -> Picture:
    """Make an upright picture of samples, which are turned by EXIF's orientation."""
    colour, alpha = turned(samples.colour, orientation), samples.alpha
    if alpha is None or int(alpha.min()) == max_level(alpha):
        planes = numpy.ascontiguousarray(colour[None])
    else:
        planes = planes_of(colour, turned(alpha, orientation))
    neutral = samples.grey or is_neutral(samples.colour, alpha)
    return Picture(planes=planes, grey=samples.grey, neutral=neutral, bits=8 * planes.itemsize)


@contextmanager
def answered() -> Iterator[None]:
    """Translate errors of the reader within the block to the service's."""
    try:
        yield
    except PictureError as error:
        raise ANSWERS[type(error)](str(error)) from error
    except MemoryError as error:
        raise Unavailable("there is no memory for this picture now; try again later, or send a smaller one") from error

"""Self-test: how close an upscaler comes to the golden picture of a weight file."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch

from model.files.reading import AnyCheckpoint
from model.psnr import psnr_db
from model.transfer import Pixels

SELF_TEST_PSNR_DB = 40.0
"""Minimum PSNR of the golden picture against the weight file's; bfloat16 gives about 55."""


class SelfTestError(Exception):
    """The network on this device does not reproduce the golden picture of its weight file."""


class Upscaling(Protocol):
    """See `model.reliable.ReliableUpscaler`."""

    device: torch.device

    def batch(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Upscale pictures (N, H, W, 3) together, whole."""

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture, as a stream."""


def golden_psnr_db(upscaler: Upscaling, checkpoint: AnyCheckpoint) -> tuple[float, str]:
    """Measure the PSNR of the golden picture in each way; returns the lowest, and the way that gave it.

    Raises:
        SelfTestError: it comes out in another size.
    """
    picture = checkpoint.golden_input.permute(1, 2, 0)[None].contiguous().numpy()
    expected = checkpoint.golden_output.permute(1, 2, 0)[None].numpy()
    found: list[tuple[float, str]] = []
    for way, upscaled in _ways(upscaler, picture):
        if upscaled.shape != expected.shape:
            raise SelfTestError(f"self-test of {checkpoint.card.name}: {upscaled.shape} px, not {expected.shape}")
        found.append((psnr_db(upscaled, expected), way))
    return min(found)


def _ways(upscaler: Upscaling, picture: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Upscale the picture in every way that requests take: on a GPU also captured, replayed and padded."""
    yield "whole", upscaler.batch([picture])[0]
    if upscaler.device.type != "cpu":
        smaller = picture[:, : -(-picture.shape[1] // 2)]
        yield "captured", upscaler.batch([picture])[0]
        yield "replayed", upscaler.batch([picture])[0]
        yield "in a batch with another", upscaler.batch([smaller, picture])[1]
    yield "as a stream", upscaler.upscale(picture)

"""The whole runtime on a GPU, against float32 on the CPU: `make test ARGS="-m gpu"`."""

import numpy
import pytest
import torch

from model.picture_upscaler import CAPTURED_PX
from model.rrdb import RRDBConfig
from model.transfer import CudaTransfer, Pixels
from model.upscaler import Upscaler
from tests.model.examples import random_net, textured

pytestmark = pytest.mark.gpu

CONFIG = RRDBConfig(channels=64, blocks=2, growth=32, scale=4)


def pixels(height: int, width: int, seed: int = 0) -> Pixels:
    return numpy.ascontiguousarray(textured(height, width, seed).permute(1, 2, 0).numpy())[None]


def on_gpu() -> Upscaler:
    return Upscaler(random_net(CONFIG), torch.device("cuda"))


def psnr_db(made: Pixels, low_res: Pixels) -> float:
    expected = Upscaler(random_net(CONFIG), torch.device("cpu"), torch.float32).upscale(low_res)
    return float(10 * numpy.log10(255**2 / numpy.square(made.astype(float) - expected).mean()))


def test_pictures_of_different_sizes_come_out_as_on_the_cpu() -> None:
    pictures = [pixels(32, 32), pixels(30, 17, seed=1), pixels(1, 1, seed=2), pixels(9, 32, seed=3)]
    upscaler = on_gpu()
    for _ in range(3):  # the first time the network is captured, then replayed
        for made, picture in zip(upscaler.batch(pictures), pictures, strict=True):
            assert psnr_db(made, picture) > 45


def test_a_captured_batch_does_not_keep_the_pictures_of_the_one_before() -> None:
    upscaler = on_gpu()
    for seed in range(4):
        assert psnr_db(upscaler.batch([pixels(24, 24, seed)])[0], pixels(24, 24, seed)) > 45


def test_streams_that_take_turns_with_batches_come_out_right() -> None:
    upscaler, picture = on_gpu(), pixels(100, 40)
    parts = []
    for part in upscaler.stream(picture, band_rows=16):
        parts.append(part)
        upscaler.batch([pixels(24, 24), pixels(9, 14, seed=1)])
    assert psnr_db(numpy.concatenate(parts, axis=1), picture) > 45


def test_a_batch_too_large_to_be_captured_comes_out_right() -> None:
    side = int(CAPTURED_PX**0.5) + 1
    made = on_gpu().batch([pixels(side, side)])[0]
    assert psnr_db(made[:, : 4 * side], pixels(side, side)) > 45


def test_pixels_survive_the_way_to_the_device_and_back() -> None:
    transfer = CudaTransfer(torch.device("cuda"))
    waiting = [transfer.download(transfer.upload(pixels(200, 300, seed))) for seed in range(5)]
    for seed, wait in enumerate(waiting):
        assert numpy.array_equal(wait(), pixels(200, 300, seed))

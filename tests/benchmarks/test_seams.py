"""Tiles are wrong at their edges, and the measurement sees it."""

import numpy
import torch

from benchmarks.rig.networks import random_generator
from benchmarks.rig.pictures import smooth_noise
from benchmarks.seams import OVERLAPS_PX, compare, drawing, tiled
from model.rrdb import RRDBConfig

NET = random_generator(RRDBConfig(channels=8, blocks=4, growth=4, scale=2))
"""It sees some 60 px around each pixel."""


def test_tiles_come_nearer_to_the_whole_the_more_they_overlap_and_the_stream_is_it() -> None:
    _, ways = compare(NET, smooth_noise(40, 40), tile_px=20, device=torch.device("cpu"))
    errors = {way.name: float(way.error.max()) for way in ways}
    narrow, wide = (errors[f"overlap {px} px"] for px in (OVERLAPS_PX[0], OVERLAPS_PX[-1]))
    assert narrow > 0.05
    assert wide < 0.005  # each tile has become the whole picture
    assert all(error < 0.005 for name, error in errors.items() if name.startswith("stream"))


def test_the_work_of_tiles_grows_with_their_overlap() -> None:
    low_res = torch.rand(1, 3, 8, 8)
    doubled = torch.nn.UpsamplingNearest2d(scale_factor=2)
    for overlap_px, work in ((0, 1.0), (1, 100 / 64), (4, 4.0)):
        upscaled, done = tiled(doubled, low_res, tile_px=4, overlap_px=overlap_px, scale=2)
        assert done == work
        assert torch.equal(upscaled, doubled(low_res))


def test_pictures_need_not_be_whole_tiles() -> None:
    doubled = torch.nn.UpsamplingNearest2d(scale_factor=2)
    low_res = torch.rand(1, 3, 7, 10)
    assert torch.equal(tiled(doubled, low_res, tile_px=4, overlap_px=2, scale=2)[0], doubled(low_res))


def test_the_picture_shows_every_way() -> None:
    whole, ways = compare(NET, smooth_noise(24, 24), tile_px=12, device=torch.device("cpu"))
    sheet = numpy.asarray(drawing(whole, ways, centre_px=24, crop_px=20))
    assert sheet.shape[1] == 3 * 24
    assert (sheet[16:36, :20] == whole[14:34, 14:34].round()).all()

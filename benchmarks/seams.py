"""python -m benchmarks.seams: errors at the edges of tiles, and those of our stream.

Every way is compared with the whole picture in float32; errors are in 8-bit levels. The picture shows the result around
the corner where four tiles meet, and the error of each way there, amplified.
"""

import argparse
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.rig.networks import add_network_options, chosen_network
from benchmarks.rig.pictures import square
from benchmarks.rig.report import Report, add_record_option
from model.device import best_device
from model.rrdb import RRDBNet
from model.transfer import Pixels
from model.upscaler import Upscaler

OVERLAPS_PX = (8, 16, 24, 32, 48, 64)
BAND_ROWS = (16, 64)
AMPLIFIED = 16
LABEL_PX = 16
"""Height of the line above each part of the picture."""

Levels = NDArray[numpy.float32]
"""Upscaled RGB in 8-bit levels, not rounded: (scale * H, scale * W, 3)."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to upscale a picture in parts, and its difference from the whole."""

    name: str
    work: float
    """LR px that go through the network per LR px of the picture."""
    error: Levels


def main() -> None:
    """Print the table and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__)
    add_network_options(parser)
    parser.add_argument("--picture", type=Path, help="its middle is taken; else seeded noise")
    parser.add_argument("--side", type=int, default=256, help="LR px of the square picture")
    parser.add_argument("--tile", type=int, default=128, help="LR px of a square tile without its overlap")
    parser.add_argument("--crop", type=int, default=192, help="px of the upscaled result in the picture")
    parser.add_argument("--out", type=Path, default=Path("runs/seams.png"), help="PNG to write")
    add_record_option(parser)
    options = parser.parse_args()

    torch.backends.cudnn.allow_tf32 = False  # the reference is float32 proper
    network = chosen_network(options)
    picture = square(options.picture, options.side)
    whole, ways = compare(network.net, picture, options.tile, best_device())
    size = f"{options.side} x {options.side} px in tiles of {options.tile} px or bands"
    with Report("seams", options) as report:
        report.setting(f"{network.name}, {size}", best_device())
        report.table(
            ("how", "work", "largest error, levels", "pixels off by a level or more"),
            [[way.name, f"{way.work:.2f} x", f"{way.error.max():.3g}", _share_off(way.error)] for way in ways],
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    centre = options.tile * network.net.config.scale  # where four tiles meet
    drawing(whole, ways, centre, options.crop).save(options.out, optimize=True)
    print(f"{options.out} shows it.")


def compare(net: RRDBNet, picture: Pixels, tile_px: int, device: torch.device) -> tuple[Levels, list[Way]]:
    """Upscale the picture as a whole and in parts, each way.

    Args:
        net: on the CPU in float32; not changed.
        picture: (1, H, W, 3).
    """
    eager = copy.deepcopy(net).to(device)
    low_res = torch.from_numpy(picture).permute(0, 3, 1, 2).contiguous().float().div(255).to(device)
    with torch.inference_mode():
        whole = _levels(eager(low_res))
        ways = []
        for overlap_px in OVERLAPS_PX:
            upscaled, work = tiled(eager, low_res, tile_px=tile_px, overlap_px=overlap_px, scale=net.config.scale)
            ways.append(Way(name=f"overlap {overlap_px} px", work=work, error=numpy.abs(_levels(upscaled) - whole)))
    upscaler = Upscaler(copy.deepcopy(net), device, torch.float32, margin_px=0)
    for rows in BAND_ROWS:
        pixels = numpy.concatenate(list(upscaler.stream(picture, rows)), axis=1)[0]
        # The stream rounds; only an error beyond half a level is its own.
        beyond = numpy.maximum(numpy.abs(pixels - whole) - 0.5, 0)
        ways.append(Way(name=f"stream, {rows} rows", work=1.0, error=beyond))
    return whole, ways


def tiled(
    upscale: Callable[[Tensor], Tensor], low_res: Tensor, *, tile_px: int, overlap_px: int, scale: int
) -> tuple[Tensor, float]:
    """Upscale (1, 3, H, W) in square tiles, each with a margin of `overlap_px` that is discarded.

    Returns:
        The result, and LR px that went through the network per LR px of the picture.
    """
    _, _, height, width = low_res.shape
    upscaled = low_res.new_empty(1, 3, scale * height, scale * width)
    done_px = 0
    for top, left in product(range(0, height, tile_px), range(0, width, tile_px)):
        above, before = max(0, top - overlap_px), max(0, left - overlap_px)
        piece = low_res[:, :, above : top + tile_px + overlap_px, before : left + tile_px + overlap_px]
        done_px += piece.shape[2] * piece.shape[3]
        made = upscale(piece)[:, :, scale * (top - above) :, scale * (left - before) :]
        kept = upscaled[:, :, scale * top : scale * (top + tile_px), scale * left : scale * (left + tile_px)]
        kept.copy_(made[:, :, : kept.shape[2], : kept.shape[3]])
    return upscaled, done_px / (height * width)


def drawing(whole: Levels, ways: Sequence[Way], centre_px: int, crop_px: int) -> Image.Image:
    """Draw the result around a point on the diagonal, and next to it the error of each way, amplified."""
    first = max(0, centre_px - crop_px // 2)
    part = slice(first, first + crop_px)
    panels = [("the whole picture", whole[part, part])]
    panels += [(way.name, AMPLIFIED * way.error[part, part]) for way in ways]
    columns = math.ceil(math.sqrt(len(panels)))
    height, width, _ = panels[0][1].shape
    sheet = Image.new("RGB", (columns * (width + 4), -(-len(panels) // columns) * (height + LABEL_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, levels) in enumerate(panels):
        left, top = place % columns * (width + 4), place // columns * (height + LABEL_PX)
        label = f"{name}, error x {AMPLIFIED}" if place else name
        draw.text((left + 2, top + 2), label, "black")
        sheet.paste(Image.fromarray(levels.round().clip(0, 255).astype(numpy.uint8)), (left, top + LABEL_PX))
    return sheet


def _levels(upscaled: Tensor) -> Levels:
    levels: Levels = upscaled[0].clamp(0, 1).mul(255).permute(1, 2, 0).cpu().numpy()
    return levels


def _share_off(error: Levels) -> str:
    return f"{100 * float((error.max(axis=2) >= 1).mean()):.2f} %"


if __name__ == "__main__":
    main()

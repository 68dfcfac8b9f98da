"""python -m benchmarks.side_by_side PHOTO --crop LEFT TOP SIZE --out PNG: the same crop four times, as one picture.

From left to right: the input (the photograph reduced by 4), bicubic, the generator, the photograph.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from app.settings import SHIPPED_MODELS
from model.reliable import load
from training.data import read_picture
from training.degrade import crop_to_multiple, enlarge_bicubic, shrink_bicubic
from training.metrics import psnr_y


def main() -> None:
    """Write the picture and print the PSNR-Y of both results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--crop", type=int, nargs=3, required=True, metavar=("LEFT", "TOP", "SIZE"), help="in px")
    parser.add_argument("--weights", type=Path, default=SHIPPED_MODELS / "compact-psnr-x4.safetensors")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    upscaler, _ = load(options.weights)
    photo = crop_to_multiple(read_picture(options.photo), upscaler.scale)
    low_res = shrink_bicubic(photo, upscaler.scale)
    bicubic = enlarge_bicubic(low_res, upscaler.scale)
    pixels = upscaler.upscale(low_res.permute(1, 2, 0)[None].contiguous().numpy())
    upscaled = torch.from_numpy(pixels)[0].permute(2, 0, 1)
    blocks = low_res.repeat_interleave(upscaler.scale, dim=1).repeat_interleave(upscaler.scale, dim=2)

    left, top, size = options.crop
    gap = torch.full((3, size, 4), 255, dtype=torch.uint8)
    crops = [picture[:, top : top + size, left : left + size] for picture in (blocks, bicubic, upscaled, photo)]
    row: list[Tensor] = [crops[0]]
    for crop in crops[1:]:
        row += [gap, crop]
    Image.fromarray(torch.cat(row, dim=2).permute(1, 2, 0).numpy()).save(options.out, optimize=True)
    for name, picture in (("bicubic", bicubic), ("generator", upscaled)):
        print(f"{name}: PSNR-Y {psnr_y(picture, photo, border=upscaler.scale):.2f} dB")


if __name__ == "__main__":
    main()

"""python -m benchmarks.feature_scale --vgg-weights FILE --weights FILE --data DIR: magnitude of the perceptual loss.

A loss weight is tuned for features of one magnitude, which differs between publications of VGG19's weights. This prints
the unscaled perceptual loss of a PSNR-trained generator; `feature_scale` brings it to its value with torchvision's.
"""

import argparse
from pathlib import Path

import torch

from model.device import best_device
from model.files.checkpoint import read_checkpoint, reference_output
from training.data import Pair
from training.pairs import read_pairs
from training.perceptual import load_vgg, perceptual_loss

SIDE = 32
"""Low-res px of the crop in the middle of each picture, as in the paper's training."""


def main() -> None:
    """Print the loss of every picture and their mean."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feature_scale", description=__doc__)
    parser.add_argument("--vgg-weights", type=Path, help="VGG19; without it torchvision's")
    parser.add_argument("--weights", type=Path, required=True, help="a PSNR-trained generator")
    parser.add_argument("--data", type=Path, required=True, help="pictures that it was not trained on")
    options = parser.parse_args()

    device = best_device()
    vgg = load_vgg(options.vgg_weights, device)
    net = read_checkpoint(options.weights).net
    scale = net.config.scale
    losses = []
    for pair in read_pairs(options.data, scale, min_px=scale * SIDE):
        if not isinstance(pair, Pair):
            print(pair)
            continue
        top, left = ((size - SIDE) // 2 for size in pair.low_res.shape[1:])
        low_res = pair.low_res[:, top : top + SIDE, left : left + SIDE]
        rows, columns = (slice(first * scale, (first + SIDE) * scale) for first in (top, left))
        pictures = (reference_output(net, low_res), pair.high_res[:, rows, columns])
        upscaled, high_res = (picture[None].to(device).float() / 255 for picture in pictures)
        with torch.no_grad():
            losses.append(perceptual_loss(vgg, upscaled, high_res).item())
        print(f"{pair.name}: {losses[-1]:.3f}")
    print(f"mean of {len(losses)}: {sum(losses) / len(losses):.3f}")


if __name__ == "__main__":
    main()

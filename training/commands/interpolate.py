"""`python -m training interpolate`: write a generator between a PSNR-trained and a GAN-trained one."""

import argparse
from dataclasses import replace
from pathlib import Path

from model.checkpoint import write_checkpoint
from model.interpolation import interpolate
from model.reading import read
from training.terminal import printable


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command to its parser."""
    add = command.add_argument
    add("psnr", type=Path, metavar="PSNR_FILE")
    add("gan", type=Path, metavar="GAN_FILE")
    add("--alpha", type=float, required=True, help="0 is the first, 1 the second")
    add("-o", "--out", type=Path, required=True, help="the weight file to write; its name is the model's")


def run(options: argparse.Namespace) -> int:
    """Mix two weight files and write the result."""
    psnr, gan = read(options.psnr), read(options.gan)
    net = interpolate(psnr, gan, options.alpha)
    card = replace(
        psnr.card,
        name=options.out.stem,
        recipe=f"interpolate {psnr.card.name} {gan.card.name} --alpha {options.alpha}",
        metrics={},
    )
    write_checkpoint(options.out, net, card, golden_input=psnr.golden_input)
    print(printable(f"wrote {options.out}"))
    return 0

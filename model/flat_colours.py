"""The colours that a generator gives to flat pictures, and a correction of them."""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from model.rrdb import RRDBNet

FLAT = torch.cartesian_prod(*[torch.linspace(0, 1, 4)] * 3)
"""64 colours, spread evenly over the RGB cube."""

RIDGE = 1e-3
"""Regularisation: keeps the correction small for networks that map all colours to nearly the same one."""


def upscaled_colours(net: RRDBNet) -> Tensor:
    """Upscale flat pictures in the colours of `FLAT`: (64, 3), float64, without the effect of a border."""
    borderless = RRDBNet.of(replace(net.config, padding_mode="replicate"), net.state_dict())
    side = net.config.unshuffle
    pictures = FLAT[:, :, None, None].expand(-1, -1, side, side).to(net.conv_last.weight)
    with torch.inference_mode():
        made: Tensor = borderless(pictures).double().mean((2, 3))
    return made


def correct_colours(net: RRDBNet, wanted: Tensor = FLAT) -> None:
    """Change the last convolution, so that flat colours come out as wanted, as nearly as an affine map can do it.

    Args:
        wanted: RGB for each of `FLAT`; by default the same colour.
    """
    made = upscaled_colours(net)
    error = wanted.to(made) - made
    around, ridge = made - made.mean(0), RIDGE * len(made) * torch.eye(3).to(made)
    change = torch.linalg.solve(around.T @ around + ridge, around.T @ error)
    offset = error.mean(0) - made.mean(0) @ change
    last, mapped = net.conv_last, torch.eye(3).to(made) + change.T
    weight, bias = last.weight.double(), cast(Tensor, last.bias).double()
    last.weight.copy_(torch.einsum("ij,jkyx->ikyx", mapped, weight))
    cast(Tensor, last.bias).copy_(mapped @ bias + offset)

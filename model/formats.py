"""Number formats that a device computes a network in natively, for a service that pins one."""

from collections.abc import Sequence

import torch

from model.convolutions.trial import cpu_dtypes
from model.device import AMPERE, TURING, fast_dtype
from model.files.foreign import ForeignNet
from model.rrdb import RRDBNet


class NumberFormatError(Exception):
    """The device emulates a number format, or the network does not take it; the text lists the native ones."""


def native_dtypes(net: RRDBNet | ForeignNet, device: torch.device) -> Sequence[torch.dtype]:
    """Return the number formats that a device computes a network in natively."""
    if device.type == "cuda":
        first_of = {torch.bfloat16: AMPERE, torch.float16: TURING}
        capability = torch.cuda.get_device_capability(device)
        native = [torch.float32, *(dtype for dtype, first in first_of.items() if capability >= first)]
    elif isinstance(net, RRDBNet):
        native = list(cpu_dtypes(net.config.channels, net.config.growth))
    else:
        native = [torch.float32, fast_dtype(device)]
    return [dtype for dtype in native if dtype in net.dtypes] if isinstance(net, ForeignNet) else native


def check_native(net: RRDBNet | ForeignNet, device: torch.device, dtype: torch.dtype) -> None:
    """Check that a device computes a network in a number format natively.

    Raises:
        NumberFormatError: it does not.
    """
    native = native_dtypes(net, device)
    if dtype not in native:
        names = " or ".join(dict.fromkeys(_name(one) for one in native))
        raise NumberFormatError(
            f"this network does not run natively in {_name(dtype)} on this {device.type}, only in {names}"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

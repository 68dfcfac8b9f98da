"""The upscaler for a network of any kind."""

import torch

from model.device import memory_errors
from model.files.foreign import ForeignNet
from model.picture_upscaler import PictureUpscaler
from model.rrdb import RRDBNet
from model.tiling import TiledUpscaler
from model.upscaler import Upscaler


@memory_errors()
def upscaler_for(
    net: RRDBNet | ForeignNet, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> PictureUpscaler:
    """Create the upscaler for a network: exact streams for ours, blended tiles for others.

    Raises:
        DeviceMemoryError: the network does not fit into the memory of the device.
    """
    return TiledUpscaler(net, device, dtype) if isinstance(net, ForeignNet) else Upscaler(net, device, dtype)

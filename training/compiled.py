"""torch.compile, where it works."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.errors import one_line
from model.memory import says_out_of_memory

log = logging.getLogger(__name__)


class Compiled:
    """A network that torch compiles at the first call; if that fails, e.g. without a C compiler, it runs as it is."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._call: Callable[[Tensor], Tensor] = torch.compile(net)
        self._proven = False

    def __call__(self, low: Tensor) -> Tensor:
        """Run the network; its first call decides how all later ones run."""
        if self._proven:
            return self._call(low)
        try:
            made = self._call(low)
        except Exception as error:  # dynamo, inductor, Triton and the C compiler each raise their own
            if says_out_of_memory(error):
                raise
            log.warning("torch.compile does not work here, so training is slower: %s", one_line(error))
            self._call = self._net
            made = self._net(low)
        self._proven = True
        return made

"""A generator as a list of stages, which rows go through one after the other."""

from torch import nn

from model.convolutions.convolver import Convolver
from model.rrdb import RRDB, RRDBNet
from model.stage import Stage
from model.stages import BLOCK_LAG, DENSE_LAG, BlockStage, ClosingStage, ConvolutionStage, DenseStage, EnteringStage
from model.workspace import SkipPath, Workspace
from model.wrapping import WrappedSkip, WrappedStage


def stages_of(net: RRDBNet, workspace: Workspace, convolve: Convolver, *, wraps: bool = False) -> list[Stage]:
    """Divide the network into stages, from the output of `entering` to the input of `leaving`, in float32.

    Args:
        wraps: rows and columns of the picture are rings; its output begins with row `reach_rows`.
    """
    return _Pipeline(net, workspace, convolve, wraps).stages()


def reach_rows(net: RRDBNet) -> int:
    """Count the enlarged rows above and below a pixel that the network sees."""
    rows = 1 + BLOCK_LAG * len(net.body) + 1
    for factor in (*net.config.enlargements, 1, 1):
        rows = factor * rows + 1
    return rows


class _Pipeline:
    def __init__(self, net: RRDBNet, workspace: Workspace, convolve: Convolver, wraps: bool) -> None:
        self._net = net
        self._workspace = workspace
        self._convolve = convolve
        self._wraps = wraps
        self._skip = WrappedSkip if wraps else SkipPath
        self._lag = 0
        self._behind = 2 if wraps else 1
        """Rows by which a convolution stays behind its input."""

    def stages(self) -> list[Stage]:
        net = self._net
        skip = self._skip(BLOCK_LAG * len(net.body) + 1)
        stages: list[Stage] = [self._convolution(net.conv_first), EnteringStage(self._lag, skip)]
        stages += [self._block(block) for block in net.body if isinstance(block, RRDB)]
        stages.append(ClosingStage(self._convolution(net.conv_body), skip))
        tail = None if self._wraps else self._convolve.tail_stage(net, self._workspace, self._lag)
        if tail is not None:
            return [*stages, tail]
        convolutions = (*net.upsampling, net.conv_hr, net.conv_last)
        for conv, factor in zip(convolutions, (*net.config.enlargements, 1, 1), strict=True):
            stages.append(self._convolution(conv, factor=factor, enlarged=True))
        return stages

    def _convolution(self, conv: nn.Conv2d, *, factor: int = 1, enlarged: bool = False) -> Stage:
        stage: Stage = ConvolutionStage(
            conv,
            self._workspace,
            self._convolve,
            self._lag,
            active=enlarged and conv is not self._net.conv_last,
            factor=factor,
            # The input of the last convolution is rounded, though its weights are float32.
            dtype=self._net.conv_hr.weight.dtype if enlarged else None,
            wraps=self._wraps,
        )
        self._lag = factor * self._lag + self._behind
        return WrappedStage(stage, 1, factor) if self._wraps else stage

    def _block(self, block: RRDB) -> Stage:
        whole = None if self._wraps else self._convolve.block_stage(block, self._workspace, self._lag)
        if whole is not None:
            self._lag += BLOCK_LAG
            return whole
        dense: list[Stage] = []
        for number, each in enumerate(block.dense_blocks):
            stage: Stage = DenseStage(
                each, self._workspace, self._convolve, self._lag, owned=number > 0, wraps=self._wraps
            )
            self._lag += self._behind * DENSE_LAG
            dense.append(WrappedStage(stage, DENSE_LAG) if self._wraps else stage)
        return BlockStage(dense, self._skip(BLOCK_LAG))

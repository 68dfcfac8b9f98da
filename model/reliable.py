"""Never a wrong picture: an upscaler that helps itself where the device's memory or number format does not suffice.

Out of memory: the batch is halved, then the band, and the work is done again. An output that cannot be right: the
picture is done again in float32. Both are counted and logged.
"""

import copy
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy
import torch

from model.device import DeviceMemoryError
from model.errors import one_line
from model.files.foreign import ForeignNet
from model.files.reading import AnyCheckpoint, read_any
from model.rrdb import RRDBNet
from model.tiling import TiledUpscaler
from model.transfer import Pixels
from model.upscaler import SuspiciousOutputError, Upscaler

SELF_TEST_PSNR_DB = 40.0
"""The golden picture must come out at least this close to what the weight file says; bfloat16 gives about 55."""

RECOVERY = 64
"""Good batches after which a device that had run out of memory gets as much at a time as before."""

log = logging.getLogger(__name__)


class SelfTestError(Exception):
    """The network on this device does not reproduce the golden picture of its weight file."""


class ReliableUpscaler:
    """An `Upscaler` for a checkpoint, with a float32 one in reserve. One thread at a time may use it.

    Args:
        device: the best one present by default.
        dtype: number format of the convolutions, by default the fastest that the device has natively.
        may_fall_back: take float32 instead where the golden picture does not come out well in that format.

    Raises:
        SelfTestError: what it makes of the checkpoint's golden picture is not what the file says.
    """

    def __init__(
        self,
        checkpoint: AnyCheckpoint,
        device: torch.device | None = None,
        *,
        dtype: torch.dtype | None = None,
        may_fall_back: bool = True,
    ) -> None:
        self._checkpoint = checkpoint
        self._spare_net = copy.deepcopy(checkpoint.net)
        self._fast = upscaler_for(checkpoint.net, device, dtype)
        self.scale = self._fast.scale
        self.device = self._fast.device
        self.most_px = self._fast.band_px
        """LR px that it best takes at a time; fewer for a while after it ran out of memory."""
        self.rescues: Counter[str] = Counter()
        """How often work was done again: after `out_of_memory`, in `float32`; `without_graphs`, `without_kernel` and
        `without_pinned` are 1 if the device does not get that right with this network."""
        self.left_out: frozenset[str] = frozenset()
        """The fast ways of the device that are not used, since the golden picture did not come out right with them."""
        self._self_test(checkpoint, may_fall_back)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the convolutions."""
        return self._fast.dtype

    @property
    def convolution(self) -> str:
        """Which code convolves: `library`, or a name of ours."""
        return self._fast.convolution

    @cached_property
    def _exact(self) -> Upscaler:
        made = upscaler_for(self._spare_net, self.device, torch.float32)
        made.use_all_but(self.left_out)
        return made

    @property
    def memory_bytes(self) -> int:
        """What both networks hold at the moment, on the device and beside it."""
        exact: Upscaler | None = self.__dict__.get("_exact")  # not made before it is needed
        if exact is self._fast:
            return exact.memory_bytes
        spare_bytes = sum(weight.nbytes for weight in self._spare_net.parameters())
        return self._fast.memory_bytes + (exact.memory_bytes if exact else spare_bytes)

    def source(self) -> AnyCheckpoint:
        """The checkpoint as it was read, its network in float32 on the CPU."""
        net = copy.deepcopy(self._spare_net).to(device="cpu", dtype=torch.float32)
        return replace(self._checkpoint, net=net)  # type: ignore[arg-type]  # the net of this very checkpoint

    def band_rows(self, picture: Pixels) -> int:
        """Rows of a picture (N, H, W, 3) that the device best takes at a time."""
        return self._fast.band_rows(picture)

    def state_bytes(self, planes: int, width: int) -> int:
        """Memory on the device that a stream of this width holds from band to band."""
        return self._fast.state_bytes(planes, width)

    def batch(self, pictures: Sequence[Pixels]) -> list[Pixels]:
        """Upscale small pictures together, whole; each as if it were alone.

        Raises:
            DeviceMemoryError: one of them does not fit into memory, not even one row at a time.
            SuspiciousOutputError: the network makes no finite output of one of them, not even in float32.
        """
        try:
            upscaled = self._fast.batch(pictures)
            self.most_px = min(self._fast.band_px, self.most_px + max(1, self._fast.band_px // RECOVERY))
            return upscaled
        except (DeviceMemoryError, SuspiciousOutputError) as error:
            out_of_memory = isinstance(error, DeviceMemoryError)
            log.warning("a batch of %d is done again: %s", len(pictures), error)
        # Here the error is gone, and with it the tensors that its traceback held.
        if out_of_memory:
            self._count_out_of_memory()
        if len(pictures) > 1:
            half = len(pictures) // 2
            return self.batch(pictures[:half]) + self.batch(pictures[half:])
        if out_of_memory:
            bands = self.stream(pictures[0], max(1, pictures[0].shape[1] // 2))
            return [numpy.concatenate(list(bands), axis=1)]
        self.rescues["float32"] += 1
        return self._exact.batch(pictures)

    def stream(self, picture: Pixels, band_rows: int | None = None) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band; memory beside the picture grows with its width only.

        Args:
            band_rows: rows that go through the network at a time.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).

        Raises:
            DeviceMemoryError: it does not fit into memory, not even one row at a time.
            SuspiciousOutputError: the network makes no finite output of it, not even in float32.
        """
        upscaler, at_once, done = self._fast, band_rows or self.band_rows(picture), 0
        while True:
            made = 0
            try:
                for rows in upscaler.stream(picture, at_once):
                    known = min(rows.shape[1], done - made)  # after a new start: the caller has them already
                    made += rows.shape[1]
                    done = max(done, made)
                    yield rows[:, known:]
                return
            except DeviceMemoryError as error:
                if at_once == 1:
                    raise
                at_once //= 2
                log.warning("a stream starts anew with bands of %d rows: %s", at_once, error)
            except SuspiciousOutputError as error:
                if upscaler is self._exact:
                    raise
                log.warning("a stream starts anew in float32: %s", error)
                upscaler = self._exact
                self.rescues["float32"] += 1
                continue
            self._count_out_of_memory()

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _count_out_of_memory(self) -> None:
        self.rescues["out_of_memory"] += 1
        self.most_px = max(1, self.most_px // 2)
        self._fast.release()

    def _self_test(self, checkpoint: AnyCheckpoint, may_fall_back: bool) -> None:
        """Prove the golden picture, first with everything that is fast, then with as little left out as possible."""
        fault = self._proven(checkpoint)
        if fault and may_fall_back and self.dtype is not torch.float32:
            log.warning("%s runs in float32: in %s %s", checkpoint.card.name, self.dtype, fault)
            self._fast = self._exact
            self._checkpoint = replace(checkpoint, net=self._spare_net)  # type: ignore[arg-type]  # its own; frees the other
            fault = self._proven(checkpoint)
        if fault:
            raise SelfTestError(
                f"self-test of {checkpoint.card.name} on {self.device} in {self.dtype}: {fault}; the device or the "
                "weights cannot be trusted"
            )

    def _proven(self, checkpoint: AnyCheckpoint) -> str | None:
        """Leave out what fails in this number format: each fast way alone, then all; returns why nothing helped."""
        ways, first_fault = self._fast.fast_ways, None
        for left_out in dict.fromkeys((frozenset(), *(frozenset({way}) for way in ways), frozenset(ways))):
            self._fast.use_all_but(left_out)
            fault = self._fault(checkpoint)
            if fault is None:
                self._note_left_out(checkpoint, left_out, first_fault)
                return None
            first_fault = first_fault or fault
        return first_fault

    def _note_left_out(self, checkpoint: AnyCheckpoint, left_out: frozenset[str], fault: str | None) -> None:
        self.left_out = left_out
        if "_exact" in self.__dict__:  # not made before it is needed
            self._exact.use_all_but(left_out)
        for way in left_out:
            self.rescues[f"without_{way}"] = 1
        if left_out:
            names = " and ".join(sorted(left_out))
            log.warning("%s runs without %s: with it, %s", checkpoint.card.name, names, fault)

    def _fault(self, checkpoint: AnyCheckpoint) -> str | None:
        """Say how the golden picture fails, if it does; memory that does not suffice is no fault."""
        before = self.rescues["float32"]
        try:
            psnr_db, way = self._golden_psnr_db(checkpoint)
        except (DeviceMemoryError, SelfTestError):
            raise
        except (SuspiciousOutputError, RuntimeError) as error:
            if not self._fast.fast_ways and self.dtype is torch.float32:
                raise
            return f"the golden picture does not come out: {one_line(error)}"
        rescued = self.rescues["float32"] > before
        self.rescues["float32"] = before
        self.rescues += Counter()  # which forgets counts of 0
        if rescued:
            return "the golden picture does not come out"
        if psnr_db < SELF_TEST_PSNR_DB:
            levels = 255 / 10 ** (psnr_db / 20)
            return f"the golden picture is off by {levels:.1f} levels (root mean square, {way}), {psnr_db:.1f} dB"
        return None

    def _golden_psnr_db(self, checkpoint: AnyCheckpoint) -> tuple[float, str]:
        """Measure how near the golden picture comes out, whole or as a stream: whichever is worse."""
        picture = checkpoint.golden_input.permute(1, 2, 0)[None].contiguous().numpy()
        expected = checkpoint.golden_output.permute(1, 2, 0)[None].numpy()
        errors: list[tuple[float, str]] = []
        for way, upscaled in self._golden_ways(picture):
            if upscaled.shape != expected.shape:
                raise SelfTestError(f"self-test of {checkpoint.card.name}: {upscaled.shape} px, not {expected.shape}")
            errors.append((float(numpy.square(upscaled.astype(float) - expected).mean()), way))
        error, way = max(errors)
        return (10 * math.log10(255**2 / error) if error else math.inf), way

    def _golden_ways(self, picture: Pixels) -> Iterator[tuple[str, Pixels]]:
        """The golden picture in every way that requests take: on a GPU also captured, replayed and padded."""
        yield "whole", self.batch([picture])[0]
        if self.device.type != "cpu":
            smaller = picture[:, : -(-picture.shape[1] // 2)]
            yield "captured", self.batch([picture])[0]
            yield "replayed", self.batch([picture])[0]
            yield "in a batch with another", self.batch([smaller, picture])[1]
        yield "as a stream", self.upscale(picture)


def upscaler_for(
    net: RRDBNet | ForeignNet, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Upscaler:
    """The upscaler that a network takes: exact streams for ours, blended tiles for others."""
    return TiledUpscaler(net, device, dtype) if isinstance(net, ForeignNet) else Upscaler(net, device, dtype)


def load(
    path: Path, device: torch.device | None = None, *, dtype: torch.dtype | None = None
) -> tuple[ReliableUpscaler, AnyCheckpoint]:
    """Read a weight file of any kind that `model.files.reading` knows, set it up and test it; see `ReliableUpscaler`.

    Raises:
        WeightsError: the file cannot be used.
        SelfTestError: the file is fine, its result on this device is not.
    """
    checkpoint = read_any(path)
    return ReliableUpscaler(checkpoint, device, dtype=dtype), checkpoint

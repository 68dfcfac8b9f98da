"""An upscaler that recovers if the device runs out of memory or its number format is not sufficient.

Out of memory: the work is retried with half the batch, then with half the band. An output that cannot be right: the
picture is retried in float32. A fast path of a GPU that raises: the work is retried without it, and later work does not
use it. Each is counted and logged.
"""

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy
import torch

from model.device import DeviceMemoryError
from model.edges import Edges
from model.errors import one_line
from model.fast_paths import FastPaths, Search, fewer
from model.files.reading import AnyCheckpoint, read_any
from model.golden import SELF_TEST_PSNR_DB, SelfTestError, golden_psnr_db
from model.picture_upscaler import PictureUpscaler, SuspiciousOutputError
from model.rows import Rows
from model.transfer import Pixels
from model.upscalers import upscaler_for

RECOVERY = 64
"""Successful batches or streams after which the limit is restored that was lowered because memory ran out."""

log = logging.getLogger(__name__)


class ReliableUpscaler:
    """An upscaler for a checkpoint, with a float32 one in reserve. One thread at a time may use it.

    Args:
        device: the best one present by default.
        dtype: number format of the convolutions, by default the fastest that the device has natively.
        may_fall_back: take float32 instead where the golden picture does not come out well in that format.

    Raises:
        DeviceMemoryError: the network does not fit into the memory of the device.
        SelfTestError: the golden picture of the checkpoint is not reproduced.
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
        self.scale, self.device = self._fast.scale, self._fast.device
        self.most_px = self._fast.band_px
        """Best number of LR px in a band; fewer for a while after the device ran out of memory."""
        self.retries: Counter[str] = Counter()
        """Counts of retried work: after `out_of_memory`, in `float32`. `without_graphs`, `without_kernel`
        and `without_pinned` are 1 if that path failed with this network."""
        self.disabled: FastPaths = frozenset()
        """Fast paths of the device that are not used, since the golden picture or later work failed with them."""
        self._self_test(checkpoint, may_fall_back)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the convolutions."""
        return self._fast.dtype

    @property
    def convolution(self) -> str:
        """Name of the convolver; see `PictureUpscaler.convolution`."""
        return self._fast.convolution

    @cached_property
    def _exact(self) -> PictureUpscaler:
        made = upscaler_for(self._spare_net, self.device, torch.float32)
        made.disable_only(self.disabled)
        return made

    @property
    def _made_exact(self) -> PictureUpscaler | None:
        return self.__dict__.get("_exact")  # None until it is needed

    @property
    def memory_bytes(self) -> int:
        """Memory that both networks hold at the moment, on the device and the host."""
        exact = self._made_exact
        if exact is self._fast:
            return exact.memory_bytes
        spare_bytes = sum(weight.nbytes for weight in self._spare_net.parameters())
        return self._fast.memory_bytes + (exact.memory_bytes if exact else spare_bytes)

    @property
    def fast_paths(self) -> Sequence[str]:
        """Fast paths of the device that could be disabled."""
        return self._fast.fast_paths

    def disable_only(self, disabled: FastPaths) -> None:
        """Disable these fast paths and enable the others, in both networks."""
        self.disabled = disabled
        self._fast.disable_only(disabled)
        if self._made_exact is not None and self._made_exact is not self._fast:
            self._made_exact.disable_only(disabled)

    def note_disabled(self, fault: str) -> None:
        """Log and count the paths that are disabled from now on, because of a fault with them."""
        for path in self.disabled:
            self.retries[f"without_{path}"] = 1
        names = " and ".join(sorted(self.disabled))
        log.warning("%s runs without %s: with it, %s", self._checkpoint.card.name, names, fault)

    def source(self) -> AnyCheckpoint:
        """The checkpoint as it was read, its network in float32 on the CPU."""
        net = copy.deepcopy(self._spare_net).to(device="cpu", dtype=torch.float32)
        return replace(self._checkpoint, net=net)  # type: ignore[arg-type]  # the net of this very checkpoint

    def band_rows(self, picture: Pixels | Rows) -> int:
        """Return the best number of rows in a band of a picture (N, H, W, 3)."""
        return self._fast.band_rows(picture)

    def state_bytes(self, planes: int, width: int) -> int:
        """Return the memory on the device that a stream of this width keeps between bands."""
        return self._fast.state_bytes(planes, width)

    @property
    def wrap_multiple_px(self) -> int:
        """See `PictureUpscaler`."""
        return self._fast.wrap_multiple_px

    @property
    def wrap_margin_px(self) -> tuple[int, int]:
        """See `PictureUpscaler`."""
        return self._fast.wrap_margin_px

    def batch(self, pictures: Sequence[Pixels], edges: Edges = "auto") -> list[Pixels]:
        """Upscale small pictures together; each as if it were alone.

        Args:
            edges: see `model.edges.Edges`.

        Raises:
            DeviceMemoryError: one of them does not fit into memory, not even one row at a time.
            SuspiciousOutputError: the network makes no finite output of one of them, not even in float32.
        """
        search = Search(self)
        while True:
            try:
                upscaled = self._retried_batch(pictures, edges)
            except (DeviceMemoryError, SuspiciousOutputError):
                search.give_up()
                raise
            except Exception as error:  # of CUDA, cuDNN, Triton, its compiler, or a file of theirs
                search.failed(error)
            else:
                search.succeeded()
                return upscaled

    def _retried_batch(self, pictures: Sequence[Pixels], edges: Edges) -> list[Pixels]:
        """See `batch`."""
        try:
            upscaled = self._fast.batch(pictures, edges)
            self._count_success()
            return upscaled
        except (DeviceMemoryError, SuspiciousOutputError) as error:
            out_of_memory = isinstance(error, DeviceMemoryError)
            log.warning("a batch of %d is retried: %s", len(pictures), error)
        # Here the error is gone, and with it the tensors that its traceback held.
        if out_of_memory:
            self._count_out_of_memory()
        if len(pictures) > 1:
            half = len(pictures) // 2
            return self._retried_batch(pictures[:half], edges) + self._retried_batch(pictures[half:], edges)
        if out_of_memory:
            bands = self.stream(pictures[0], max(1, pictures[0].shape[1] // 2), edges=edges)
            return [numpy.concatenate(list(bands), axis=1)]
        self.retries["float32"] += 1
        return self._exact.batch(pictures, edges)

    def stream(
        self, picture: Pixels | Rows, band_rows: int | None = None, *, edges: Edges = "auto"
    ) -> Iterator[Pixels]:
        """Upscale one picture of any height, band by band, in memory that depends on its width only.

        Args:
            band_rows: rows of a band.
            edges: see `model.edges.Edges`.

        Yields:
            The next rows of the result, (N, some rows or none, scale * W, 3).

        Raises:
            DeviceMemoryError: it does not fit into memory, not even one row at a time.
            SuspiciousOutputError: the network makes no finite output of it, not even in float32.
        """
        search = Search(self)
        try:
            yield from self._retried_stream(picture, band_rows or self.band_rows(picture), edges, search)
        except (GeneratorExit, DeviceMemoryError, SuspiciousOutputError):
            search.give_up()
            raise

    def _retried_stream(self, picture: Pixels | Rows, at_once: int, edges: Edges, search: Search) -> Iterator[Pixels]:
        """See `stream`."""
        upscaler, done = self._fast, 0
        while True:
            made = 0
            try:
                for rows in upscaler.stream(picture, at_once, edges=edges):
                    known = min(rows.shape[1], done - made)  # after a restart: the caller already has them
                    made += rows.shape[1]
                    if made > done:
                        search.succeeded()
                    done = max(done, made)
                    yield rows[:, known:]
                search.succeeded()
                self._count_success()
                return
            except DeviceMemoryError as error:
                if at_once == 1:
                    raise
                at_once //= 2
                log.warning("a stream restarts with bands of %d rows: %s", at_once, error)
            except SuspiciousOutputError as error:
                if upscaler is self._exact:
                    raise
                log.warning("a stream restarts in float32: %s", error)
                upscaler = self._exact
                self.retries["float32"] += 1
                continue
            except Exception as error:  # see `batch`
                search.failed(error)
                continue
            self._count_out_of_memory()

    def upscale(self, picture: Pixels) -> Pixels:
        """Upscale one picture of any size, as a stream."""
        return numpy.concatenate(list(self.stream(picture)), axis=1)

    def _count_out_of_memory(self) -> None:
        self.retries["out_of_memory"] += 1
        self.most_px = max(1, self.most_px // 2)
        self._fast.release()

    def _count_success(self) -> None:
        self.most_px = min(self._fast.band_px, self.most_px + max(1, self._fast.band_px // RECOVERY))

    def _self_test(self, checkpoint: AnyCheckpoint, may_fall_back: bool) -> None:
        """Check the golden picture with all fast paths, or with as few disabled as possible."""
        fault = self._proven(checkpoint)
        if fault and may_fall_back and self.dtype is not torch.float32:
            log.warning("%s runs in float32: in %s %s", checkpoint.card.name, self.dtype, fault)
            self._fast = self._exact
            self._checkpoint = replace(checkpoint, net=self._spare_net)  # type: ignore[arg-type]  # its own net; frees the other
            fault = self._proven(checkpoint)
        if fault:
            raise SelfTestError(
                f"self-test of {checkpoint.card.name} on {self.device} in {self.dtype}: {fault}; the device or the "
                "weights cannot be trusted"
            )

    def _proven(self, checkpoint: AnyCheckpoint) -> str | None:
        """Disable fast paths that fail in this number format: each alone, then all; returns the fault if all fail."""
        everything: FastPaths = frozenset()
        first_fault = None
        for disabled in (everything, *fewer(self.fast_paths, everything)):
            self.disable_only(disabled)
            fault = self._fault(checkpoint)
            if fault is None:
                if first_fault is not None:
                    self.note_disabled(first_fault)
                return None
            first_fault = first_fault or fault
        return first_fault

    def _fault(self, checkpoint: AnyCheckpoint) -> str | None:
        """Return how the golden picture fails, if it does; lack of memory does not count."""
        before = self.retries["float32"]
        try:
            psnr_db, way = golden_psnr_db(self, checkpoint)
        except (DeviceMemoryError, SelfTestError):
            raise
        except (SuspiciousOutputError, RuntimeError) as error:
            if not self._fast.fast_paths and self.dtype is torch.float32:
                raise
            return f"the golden picture does not come out: {one_line(error)}"
        retried = self.retries["float32"] > before
        self.retries["float32"] = before
        self.retries += Counter()  # drops counts of 0
        if retried:
            return "the golden picture does not come out"
        if psnr_db < SELF_TEST_PSNR_DB:
            levels = 255 / 10 ** (psnr_db / 20)
            return f"the golden picture is off by {levels:.1f} levels (root mean square, {way}), {psnr_db:.1f} dB"
        return None


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

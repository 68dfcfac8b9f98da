"""The training loop: from photographs to a generator that the service can load."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from model.device import DeviceMemoryError, memory_errors
from model.files.checkpoint import reference_output
from model.files.pickled import SIZES
from training.config import TrainingConfig
from training.crops import Batch
from training.distributed import from_process_0, processes, refuse_disagreement, this_process
from training.journal import Journal
from training.pace import measuring_line, rehearse
from training.snapshots import Origin, Snapshots
from training.sources import HeldOutNames, Photographs
from training.state import STATE, save_state
from training.steps import DivergedError, Steps
from training.terminal import say
from training.validation import MeanScores, Validation, common_means

SAVE_EVERY_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """The parts of a run; see `train`."""

    steps: Steps
    photographs: Photographs
    validation: Validation
    held_out: HeldOutNames | None = None
    """The names of the pictures that are held out of a folder, to hold out the same when the run continues."""
    out: Path
    state: Mapping[str, Any] | None = None
    """The state in `out`, which `state_to_continue` has read; None for a new run."""
    origin: Origin
    report: Callable[[str], None] = say
    """Receives lines about the progress of the run."""

    @property
    def config(self) -> TrainingConfig:
        """The config, which decides the outcome."""
        return self.steps.config

    @property
    def target(self) -> Path:
        """The weight file that the run exports."""
        return self.out / f"{self.config.name}.safetensors"

    @property
    def state_file(self) -> Path:
        """The file that a resumed run continues from."""
        return self.out / STATE


def train(run: Run) -> Path:
    """Train, or continue a killed run from its state; returns the exported weight file.

    Every process of a distributed run calls it. Process 0 alone writes into the folder, so that no other machine needs
    it.

    Raises:
        ProcessesDisagreeError: the processes were not given the same command or pictures.
        DivergedError: the losses stopped being finite, or never were.
        DeviceMemoryError: a step needs more memory than there is.
    """
    from_process_0(lambda: _write_config(run))
    if run.state:
        run.steps.restore(run.state["steps"])
        run.report(f"continuing after step {run.steps.done} of {run.config.steps}")
        if run.state["photographs"] != run.photographs.fingerprint:
            run.report("the photographs are not those that the run began with: it will not end where it would have")
    refuse_disagreement(
        settings=run.config.to_json(), photographs=run.photographs.fingerprint, step_to_begin_with=run.steps.done
    )
    try:
        with memory_errors():
            return _trained(run)
    except DeviceMemoryError as error:
        raise DeviceMemoryError(f"{error}; {ways_to_need_less(run.config)}") from error


def ways_to_need_less(config: TrainingConfig) -> str:
    """Describe how a run that was out of memory can continue with less."""
    parts, share = config.accumulate, config.batch // processes()
    more = next((more for more in range(parts + 1, share + 1) if share % more == 0), None)
    ways = [f"accumulate={more}, which takes the batch in more parts"] if more else []
    ways += [] if config.checkpointing else ["checkpointing=true"]
    return f"the same command continues with --set {', or '.join(ways)}" if ways else "take smaller crops or batches"


def _write_config(run: Run) -> None:
    run.out.mkdir(parents=True, exist_ok=True)
    run.config.write(run.out / "config.json")


def _trained(run: Run) -> Path:
    """Take the remaining steps, which process 0 records."""
    steps, config = run.steps, run.config
    batches = _batches(run)
    watch = Watch(run) if this_process() == 0 else None
    try:
        over = from_process_0(lambda: watch is not None and watch.is_over)
        while not over and (batch := next(batches, None)):
            losses = steps.take(*batch)
            if watch:
                watch.count(losses)
            if steps.done % config.validate_every == 0:  # the others wait here while process 0 measures
                over = from_process_0(lambda: watch is not None and watch.is_over)
    finally:
        if watch:
            watch.close()
    return watch.export() if watch else run.target


def _batches(run: Run) -> Iterator[Batch]:
    """Return the batches of the remaining steps, and report the expected time."""
    batches = iter(run.photographs.crops.batches(run.steps.done, run.config.steps))
    if (first := next(batches, None)) is None:
        return iter(())
    pace = rehearse(run.steps, *first)
    if line := pace.line(run.config.steps - run.steps.done, datetime.now()):  # noqa: DTZ005  # the user's own clock
        run.report(line)
    return itertools.chain((first,), batches)


class Watch:
    """The work of process 0 between the steps: record, measure, save, and at the end export."""

    def __init__(self, run: Run) -> None:
        self._run = run
        steps, config, state = run.steps, run.config, run.state
        self._scores: MeanScores = {}
        self._announced = False
        self._saved_s = time.monotonic()
        self._bicubic = run.validation.bicubic(config.generator.scale)
        earlier = state.get("snapshots") if state and self._measures_the_same_as(state) else None
        self._snapshots = Snapshots(run.out, config, run.origin, _golden_input(run), earlier)
        self._journal = Journal(
            run.out,
            steps=config.steps,
            done=steps.done,
            state=state["journal"] if state else None,
            report=run.report,
        )
        if config.start and not steps.done and run.validation:
            self._measure()

    @property
    def is_over(self) -> bool:
        """True if the run has taken its last step, or has waited long enough for a better measurement."""
        return self._run.steps.done == self._run.config.steps or self._snapshots.patience_is_over

    def count(self, losses: Mapping[str, float]) -> None:
        """Record a step that was taken; measure and save where it is time."""
        steps, config = self._run.steps, self._run.config
        self._journal.count(losses)
        last = steps.done == config.steps
        if last or steps.done % config.log_every == 0:
            rate = config.optimiser.rate_at(steps.done - 1, config.steps)
            self._journal.write_losses(steps.done, learning_rate=rate, skipped=steps.skipped)
        if self._run.validation and (last or steps.done % config.validate_every == 0):
            self._measure()
        if self.is_over or time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self._save()

    def export(self) -> Path:
        """Write the weight file of the run.

        Raises:
            DivergedError: every step was skipped, so the weights are those of the beginning.
        """
        steps = self._run.steps
        if steps.skipped == steps.done:
            raise DivergedError(
                f"all {steps.done} steps gave losses or gradients that are not finite and changed nothing, so there is "
                "no result. Look at the pictures with `python -m training doctor`, or give lower weights of the losses "
                "in a new run: --out NEW"
            )
        if steps.skipped:
            self._run.report(
                f"{steps.skipped} of {steps.done} steps were skipped: their losses or gradients were not finite"
            )
        scores = self._scores or self._measured()[0]  # none if the run was killed after its last step
        path, line = self._snapshots.finish(steps.average, steps.done, scores)
        self._run.report(line)
        return path

    def close(self) -> None:
        """End the progress bar and write what is left of the record."""
        self._journal.close()

    def _measures_the_same_as(self, state: Mapping[str, Any]) -> bool:
        """Compare the pictures to measure on with those of a saved state by bicubic's PSNR-Y, and report a change."""
        before, now = state.get("bicubic"), self._bicubic_psnr()
        if before is None:  # the state of an older version
            return True
        same = before.keys() == now.keys() and all(math.isclose(before[one], now[one], rel_tol=1e-4) for one in now)
        if not same:
            self._run.report(
                "the pictures to measure on are not those of before: the best weights are chosen among the steps that "
                "follow"
            )
        return same

    def _bicubic_psnr(self) -> dict[str, float]:
        return common_means(self._bicubic, self._bicubic)[0].get("psnr_y", {})

    def _measure(self) -> None:
        run, net = self._run, self._run.steps.average
        started = time.monotonic()
        self._scores, bicubic = self._measured()
        self._journal.write_scores(run.steps.done, self._scores, bicubic)
        self._announce(time.monotonic() - started)
        self._journal.show(run.steps.done, run.validation.panels(net, run.steps.device))
        self._snapshots.write(net, run.steps.done, self._scores)

    def _announce(self, measuring_s: float) -> None:
        """Report at the first measurement how long all others will take."""
        run, config = self._run, self._run.config
        left = -(-(config.steps - run.steps.done) // config.validate_every)
        if not self._announced and (line := measuring_line(measuring_s, left)):
            run.report(line)
        self._announced = True

    def _measured(self) -> tuple[MeanScores, MeanScores]:
        """Measure the average of the weights; returns bicubic's scores for the same pictures as well."""
        net, device = self._run.steps.average, self._run.steps.device
        each = self._run.validation.of_each(lambda low_res: reference_output(net, low_res.to(device)))
        return common_means(each, self._bicubic)

    def _save(self) -> None:
        run = self._run
        state = {
            "config": run.config.to_json(),
            "photographs": run.photographs.fingerprint,
            "held_out": run.held_out,
            "bicubic": self._bicubic_psnr(),
            "steps": run.steps.state(),
            "journal": self._journal.state(),
            "snapshots": self._snapshots.state(),
            SIZES: {name: getattr(run.config.generator, name) for name in ("scale", "padding_mode")},
        }
        save_state(run.state_file, state)
        self._saved_s = time.monotonic()


def _golden_input(run: Run) -> Tensor:
    """Choose a small real picture for the self-test of the weight files: uint8 RGB (3, <= 32, <= 40)."""
    for pairs in run.validation.pairs.values():
        if pairs:
            return pairs[0].low_res[:, :32, :40].contiguous()
    low_res, _ = next(iter(run.photographs.crops.batches(0, 1)))
    return low_res[0, :, :32, :40].cpu().contiguous()

"""python -m benchmarks.acceptance: check on a GPU what only a GPU can show; every line is PASS, FAIL or a figure.

A rehearsal on a CPU (`--cpu`) runs the same stages with tiny pictures, and only collects the tests; limits on speed do
not count there. The folder of the report also receives what the stages print.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from app import VERSION
from benchmarks.acceptance.device_tests import run_tests
from benchmarks.acceptance.limits import limited
from benchmarks.acceptance.record import Record, logged
from benchmarks.acceptance.runtime import Runtime
from benchmarks.rig.networks import chosen_network, write_models
from model.device import choose_device
from model.gpu import DeviceError

STAGES = {
    "environment": 60,
    "tests": 240,
    "ceilings": 30,
    "network": 240,
    "profile": 60,
    "service": 200,
    "memory": 60,
    "lost": 150,
}
"""Stage -> limit in seconds, the most important first."""

SIZES = [(64, 64), (256, 256), (512, 512), (1000, 1000), (2000, 1500)]


def main() -> int:
    """Run the stages and write the report; returns 1 if any line failed."""
    options = _options()
    try:
        device = choose_device("cpu" if options.cpu else options.device)
    except DeviceError as error:
        print(f"error: {error}; --cpu rehearses without a GPU", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    kind = "Rehearsal of the acceptance" if options.cpu else "Acceptance"
    record = Record(
        report=options.out / "report.txt",
        title=f"{kind} of esrgan-serve {VERSION} on {device}, {now}",
        planned=[name for name in STAGES if name in options.stages or not options.stages],
    )
    with (
        tempfile.TemporaryDirectory() as models,
        tempfile.TemporaryDirectory() as kernels,
        (options.out / "log.txt").open("w", encoding="utf-8") as log,
        logged(record, log),
    ):
        os.environ.setdefault("TRITON_CACHE_DIR", kernels)  # cold, as in a new container
        stages = _stages(record, options, device, Path(models))
        for name in record.planned:
            record.run(name, limited(STAGES[name] * options.patience, log)(stages[name]))
            with suppress(RuntimeError):  # the device may be lost
                torch.cuda.empty_cache()
    print(f"\n{record.report}: {', '.join(record.failed) or 'nothing'} failed")
    return 1 if record.failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all by default")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--patience", type=float, default=1.0, help="factor of the time limits of all stages")
    parser.add_argument("--out", type=Path, default=Path("runs/acceptance"), help="folder of the report")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}")
    options.tiny, options.network, options.weights = options.cpu, None if options.cpu else 23, None
    return options


def _stages(
    record: Record, options: argparse.Namespace, device: torch.device, models: Path
) -> dict[str, Callable[[], None]]:
    network, small, out = chosen_network(options), bool(options.cpu), options.out
    write_models(options, models)
    runtime = Runtime(record, network.net, device, small=small)

    def serve() -> None:
        from benchmarks.acceptance import service  # needs packages that a machine with PyTorch may lack

        service.serve(record, models, str(device), SIZES[:1] if small else SIZES, out / "service.txt")

    def lose() -> None:
        from benchmarks.acceptance import service

        service.lose(record, models, str(device), out / "lost.txt")

    return {
        "environment": runtime.environment,
        "tests": partial(run_tests, record, out, only_collect=small),
        "ceilings": runtime.ceilings,
        "network": runtime.network,
        "profile": partial(runtime.profile, out / "profile.txt"),
        "service": serve,
        "memory": partial(runtime.memory, models / f"{network.name}.safetensors"),
        "lost": lose,
    }


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the service that a stage started, too
    sys.exit(main())

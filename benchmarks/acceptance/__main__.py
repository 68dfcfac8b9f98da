"""python -m benchmarks.acceptance: check on a GPU what only a GPU can show; every line is PASS, FAIL or a figure.

A rehearsal on a CPU (`--cpu`) runs the same stages with tiny pictures; limits on speed do not count there.
"""

import argparse
import faulthandler
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from app import VERSION
from benchmarks.acceptance import service
from benchmarks.acceptance.record import Record
from benchmarks.acceptance.runtime import Runtime
from benchmarks.rig.networks import chosen_network, write_models
from model.device import choose_device
from model.gpu import DeviceError

STAGE_S = 600
"""A stage that takes longer hangs, most likely in the driver; the process then ends, and the report says where."""

SIZES = [(64, 64), (256, 256), (512, 512), (1000, 1000), (2000, 1500)]


def main() -> int:
    """Run the stages and write the report; returns 1 if any line failed."""
    options = _options()
    try:
        device = choose_device("cpu" if options.cpu else options.device)
    except DeviceError as error:
        print(f"error: {error}; --cpu rehearses without a GPU", file=sys.stderr)
        return 2
    report = options.out / "report.txt"
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TRITON_CACHE_DIR", str(options.out / "triton"))  # cold, as in a new container
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    kind = "Rehearsal of the acceptance" if options.cpu else "Acceptance"
    record = Record(report=report, title=f"{kind} of esrgan-serve {VERSION} on {device}, {now}")
    with tempfile.TemporaryDirectory() as models:
        for name, stage in _stages(record, options, device, Path(models)).items():
            if not options.stages or name in options.stages:
                faulthandler.dump_traceback_later(STAGE_S, exit=True)
                record.run(name, stage)
                faulthandler.cancel_dump_traceback_later()
                if device.type == "cuda":
                    torch.cuda.empty_cache()
    print(f"\n{report}: {', '.join(record.failed) or 'nothing'} failed")
    return 1 if record.failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acceptance", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; all by default")
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the CPU")
    parser.add_argument("--out", type=Path, default=Path("runs/acceptance"), help="folder of the report")
    options = parser.parse_args()
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"unknown stage {', '.join(sorted(unknown))}; the stages are {', '.join(STAGES)}")
    options.tiny, options.network, options.weights = options.cpu, None if options.cpu else 23, None
    return options


STAGES = ("environment", "ceilings", "network", "memory", "service", "lost", "tests")


def _stages(
    record: Record, options: argparse.Namespace, device: torch.device, models: Path
) -> dict[str, Callable[[], None]]:
    network, small = chosen_network(options), bool(options.cpu)
    write_models(options, models)
    runtime = Runtime(record, network.net, device, small=small)
    stages: dict[str, Callable[[], None]] = {
        "environment": runtime.environment,
        "ceilings": runtime.ceilings,
        "network": runtime.network,
        "memory": partial(runtime.memory, models / f"{network.name}.safetensors"),
        "service": partial(service.serve, record, models, str(device), SIZES[:1] if small else SIZES),
        "lost": partial(service.lose, record, models, str(device)),
        "tests": partial(service.tests, record, options.out),
    }
    assert tuple(stages) == STAGES
    return {name: stage for name, stage in stages.items() if not (small and name == "tests")}


if __name__ == "__main__":
    sys.exit(main())

import faulthandler
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from model import gpu
from model.rrdb import RRDBConfig
from tests.training import tiny_runs
from training import distributed
from training import steps as training_steps
from training.config import DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.distributed import (
    BatchNorm,
    ProcessesDisagreeError,
    average_gradients,
    from_process_0,
    joined,
    mean_over_processes,
    processes,
    refuse_disagreement,
    this_process,
)
from training.loss_config import LossConfig
from training.steps import Steps
from training.train import train

CPU = torch.device("cpu")
PROCESSES = 2
LONGEST_STEP_S = 3.0
TIMEOUT_S = 300.0
"""Two processes that wait for each other forever would otherwise hold up the tests forever."""

PSNR = TrainingConfig(
    name="tiny-x2",
    recipe="tiny",
    generator=RRDBConfig(channels=6, blocks=1, growth=4, scale=2),
    steps=100,
    batch=4,
    crop_px=16,
    optimiser=OptimiserConfig(learning_rate=1e-3, halve_at=(50,)),
    validate_every=100,
)
GAN = replace(
    PSNR,
    losses=LossConfig(l1=1.0, adversarial=0.1),
    discriminator=DiscriminatorConfig(kind="unet", channels=4, optimiser=PSNR.optimiser),
)
CONFIGS = {
    "psnr": PSNR,
    "muon": replace(PSNR, optimiser=OptimiserConfig(method="muon", learning_rate=1e-3, halve_at=(50,))),
    "unet": GAN,
    "repeated borders": replace(GAN, generator=replace(PSNR.generator, padding_mode="replicate")),
    "flat": replace(
        PSNR,
        losses=LossConfig(l1=1.0, flat=5.0),
        generator=replace(PSNR.generator, padding_mode="replicate"),
    ),
    "vgg": replace(
        GAN,
        crop_px=64,
        discriminator=DiscriminatorConfig(kind="vgg", channels=2, optimiser=PSNR.optimiser),
    ),
}

CANCELLING = ("verdict.bias", "verdict.0.bias", "verdict.2.bias")
"""Biases of the U-Net and the VGG discriminator that cancel: relativistic losses use differences of verdicts, which do
not depend on them. Their gradients are rounding errors, which Adam turns into full steps."""


def share_of(batch: Tensor, process: int, sharing: int) -> Tensor:
    return batch.chunk(sharing)[process]


def after_two_steps(config: TrainingConfig, process: int, sharing: int) -> dict[str, Any]:
    """Return the state of a run in one of its processes: weights, spectral norms, losses, first gradients."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_steps, "fast_dtype", lambda device: torch.float32)
        run = Steps(config, CPU)
    chance = torch.Generator().manual_seed(7)
    nets = {"generator": run.generator.net} | ({"discriminator": run.discriminator.net} if run.discriminator else {})
    losses: list[dict[str, float]] = []
    gradients: list[Tensor] = []
    for _ in range(2):
        low_res, high_res = (
            torch.randint(256, (config.batch, 3, side, side), generator=chance, dtype=torch.uint8)
            for side in (config.crop_px, config.crop_px * config.generator.scale)
        )
        losses.append(run.take(share_of(low_res, process, sharing), share_of(high_res, process, sharing)))
        weights = [weight for net in nets.values() for weight in net.parameters()]
        gradients = gradients or [weight.grad.clone() for weight in weights if weight.grad is not None]
    return {
        "losses": losses,
        "average": run.average.state_dict(),
        "gradients": gradients,
        "weights": {
            name: {key: weight for key, weight in net.state_dict().items() if key not in CANCELLING}
            for name, net in nets.items()
        },
    }


def normalised(norm: nn.BatchNorm2d, process: int, sharing: int) -> dict[str, Tensor]:
    """Outputs of a batch normalisation, and gradients of the mean over the processes of a loss of all of them."""
    chance = torch.Generator().manual_seed(8)
    batch = 3 + 2 * torch.randn(4, 3, 5, 6, generator=chance)
    factors = torch.randn(4, 3, 5, 6, generator=chance)
    nn.init.normal_(norm.weight, 1, 0.2, generator=chance)
    nn.init.normal_(norm.bias, 0, 0.2, generator=chance)
    share = share_of(batch, process, sharing).clone().requires_grad_()
    outputs = norm(share)
    (outputs * share_of(factors, process, sharing)).mean().backward()
    average_gradients(norm)
    assert share.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    return {
        "outputs": outputs.detach(),
        "gradient of the batch": share.grad / sharing,  # backward() summed over the processes, and the loss is a mean
        "gradient of the factors": norm.weight.grad,
        "gradient of the biases": norm.bias.grad,
    }


def agreement(process: int) -> dict[str, str]:
    """Return the results in each process for a value of process 0, for its error, and for different values."""
    said = {"value": from_process_0(lambda: f"made in {process}")}

    def fail() -> None:
        raise ValueError(f"wrong in {process}")

    try:
        from_process_0(fail)
    except ValueError as error:
        said["error"] = str(error)
    refuse_disagreement(settings="equal")
    try:
        refuse_disagreement(settings="equal", photographs=f"of {process}")
    except ProcessesDisagreeError as error:
        said["disagreement"] = str(error)
    return said


def resumed_without_a_shared_folder(process: int, out: Path) -> dict[str, Any]:
    """A run of two sittings, in a folder of each process's own; returns the weights that it ends with."""
    config = replace(tiny_runs.PSNR, optimiser=OptimiserConfig(learning_rate=1e-3, decay_steps=2))
    folder = out / f"machine {process}"
    train(tiny_runs.run_of(replace(config, steps=3), folder))
    for path in folder.glob("*.safetensors"):
        path.unlink()
    run = tiny_runs.run_of(replace(config, steps=6), folder)
    train(run)
    return {"done": run.steps.done, "average": run.steps.average.state_dict(), "folder": folder.exists()}


def begin(process: int) -> None:
    """Prepare one of the processes, with the environment that torchrun creates."""
    faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)  # even if its parent is gone
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(process), "LOCAL_RANK": str(process)}


def work(process: int, out: Path) -> None:
    """Run one of the processes."""
    begin(process)
    with joined():
        value = torch.tensor(float(process), requires_grad=True)
        mean = mean_over_processes(value)
        (mean * (1 + process)).backward()
        results: dict[str, Any] = {
            "numbers": (this_process(), processes()),
            "mean": mean.item(),
            "gradient of the mean": value.grad,
            "agreement": agreement(process),
            "resumed": resumed_without_a_shared_folder(process, out),
            "norm": normalised(BatchNorm(3), process, PROCESSES),
            **{name: after_two_steps(config, process, PROCESSES) for name, config in CONFIGS.items()},
        }
    results["numbers afterwards"] = (this_process(), processes())
    torch.save(results, out / f"{process}.pt")


def measure_longer_than_a_step_may_take(process: int, out: Path) -> None:
    """A run whose first measurement is slow; then process 1 vanishes, and process 0 begins a step."""
    begin(process)
    distributed.LONGEST_STEP = timedelta(seconds=LONGEST_STEP_S)

    def report(line: str) -> None:
        if line.startswith("step 2:"):
            time.sleep(1.5 * LONGEST_STEP_S)

    with joined():
        run = tiny_runs.run_of(replace(tiny_runs.PSNR, steps=3, validate_every=2), out)
        train(replace(run, report=report))
        said = "nothing"
        if process == 0:
            try:
                mean_over_processes(torch.zeros(1))
            except RuntimeError as error:
                said = str(error)
        said = from_process_0(lambda: said)  # process 1 waits here
    torch.save({"done": run.steps.done, "said": said}, out / f"{process}.pt")


def run_processes(work: Callable[[int, Path], None], out: Path) -> list[dict[str, Any]]:
    """Start the processes and return their results; when one fails or they do not end, all of them are ended."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]  # a free port; not in torch's stub
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setenv("MASTER_ADDR", "127.0.0.1")
        patch.setenv("MASTER_PORT", str(store.port))
        patch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
        patch.setenv("WORLD_SIZE", str(PROCESSES))
        context = torch.multiprocessing.spawn(work, (out,), nprocs=PROCESSES, join=False)  # type: ignore[attr-defined, no-untyped-call]  # not in torch's stub
    assert context is not None
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, f"the processes did not end within {TIMEOUT_S} s"
    finally:
        for process in context.processes:
            process.kill()
            process.join()
    return [torch.load(out / f"{process}.pt", weights_only=True) for process in range(PROCESSES)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of two processes that shared every batch."""
    return run_processes(work, tmp_path_factory.mktemp("processes"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_come_to_what_one_with_the_whole_batch_does(name: str, shared: list[dict[str, Any]]) -> None:
    alone = after_two_steps(CONFIGS[name], 0, 1)
    for result in shared:
        torch.testing.assert_close(result[name], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_processes_hold_the_same_weights_bit_for_bit(name: str, shared: list[dict[str, Any]]) -> None:
    first, second = (result[name] for result in shared)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_batch_normalisation_sees_the_batch_of_all_processes(shared: list[dict[str, Any]]) -> None:
    expected = normalised(nn.BatchNorm2d(3), 0, 1)
    one, other = (result["norm"] for result in shared)
    for name in ("outputs", "gradient of the batch"):
        torch.testing.assert_close(torch.cat([one[name], other[name]]), expected[name])
    for name in ("gradient of the factors", "gradient of the biases"):
        torch.testing.assert_close(one[name], expected[name])
        torch.testing.assert_close(other[name], expected[name])


def test_the_mean_over_processes_passes_gradients_to_all_of_them(shared: list[dict[str, Any]]) -> None:
    assert [result["mean"] for result in shared] == [0.5, 0.5]
    assert [result["gradient of the mean"].item() for result in shared] == [1.5, 1.5]  # (1 + 2) / 2


def test_what_process_0_makes_is_in_every_process(shared: list[dict[str, Any]]) -> None:
    assert [result["agreement"]["value"] for result in shared] == ["made in 0", "made in 0"]
    assert [result["agreement"]["error"] for result in shared] == ["wrong in 0", "wrong in 0"]


def test_processes_that_were_given_other_pictures_are_refused_in_all_of_them(shared: list[dict[str, Any]]) -> None:
    for result in shared:
        assert "process 1 has other photographs than process 0: of 1 and of 0" in result["agreement"]["disagreement"]


def test_a_run_on_several_machines_is_resumed_from_the_state_of_the_first_alone(shared: list[dict[str, Any]]) -> None:
    first, second = (result["resumed"] for result in shared)
    assert (first["folder"], second["folder"]) == (True, False)  # so the second had no state to read
    assert (first["done"], second["done"]) == (6, 6)
    torch.testing.assert_close(second["average"], first["average"], rtol=0, atol=0)


def test_a_measurement_may_take_longer_than_a_step_and_a_process_that_vanishes_in_one_ends_the_run(
    tmp_path: Path,
) -> None:
    for result in run_processes(measure_longer_than_a_step_may_take, tmp_path):
        assert result["done"] == 3
        assert "imed out" in result["said"]


def test_processes_are_numbered_until_they_part(shared: list[dict[str, Any]]) -> None:
    assert [result["numbers"] for result in shared] == [(0, 2), (1, 2)]
    assert [result["numbers afterwards"] for result in shared] == [(0, 1), (0, 1)]


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with joined():
        assert not dist.is_initialized()
        assert (this_process(), processes()) == (0, 1)


def test_each_process_tests_and_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    tested: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(gpu, "present", lambda: (8, ""))
    monkeypatch.setattr(gpu, "why_unusable", lambda device: tested.append(str(device)))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: None)
    monkeypatch.setattr(dist, "new_group", lambda timeout: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with joined() as device:
        assert device == torch.device("cuda", 3)
    assert tested == ["cuda:3"]


def test_one_process_alone_keeps_its_values_and_gradients() -> None:
    value, net = torch.tensor([1.0, 2.0]), nn.Linear(2, 1)
    assert mean_over_processes(value) is value
    net(value).backward()
    average_gradients(net)
    assert net.weight.grad is not None
    assert net.weight.grad.tolist() == [[1.0, 2.0]]


def test_a_batch_normalisation_of_one_process_is_torchs() -> None:
    torch.testing.assert_close(normalised(BatchNorm(3), 0, 1), normalised(nn.BatchNorm2d(3), 0, 1))

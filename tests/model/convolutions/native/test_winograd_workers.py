"""The threads that share a convolution of winograd.c never change its bits.

They are our own if OMP_WAIT_POLICY is passive, as `make test` sets it, and OpenMP's otherwise.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from model.convolutions.native import winograd

pytestmark = pytest.mark.skipif(winograd.compiled() is None, reason="nothing is compiled")


@pytest.fixture(autouse=True)
def own_number_of_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def prepared(seed: int) -> tuple[winograd.Packed, Tensor, Tensor]:
    """A convolution in 16 channels, a window for it, and room for its 25 x 70 px."""
    chance = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(16, 16, 3, bias=False).requires_grad_(False)
    conv.weight.copy_(torch.rand(conv.weight.shape, generator=chance))
    window = torch.rand(1, 16, 27, 72, generator=chance).contiguous(memory_format=torch.channels_last)
    return winograd.Packed(conv), window, torch.zeros(1, 16, 25, 70).contiguous(memory_format=torch.channels_last)


def made(seed: int = 0) -> Tensor:
    packed, window, target = prepared(seed)
    packed(window, target)
    return target


def test_any_number_of_threads_one_after_the_other_makes_the_same_bits() -> None:
    torch.set_num_threads(1)
    alone = made()
    for threads in (2, 5, 1, 3, 2, 8):
        torch.set_num_threads(threads)
        assert all(torch.equal(made(), alone) for _ in range(20))


def test_callers_at_the_same_time_each_get_their_own_result() -> None:
    torch.set_num_threads(1)
    alone = [made(seed) for seed in range(4)]

    def agrees(seed: int) -> bool:
        torch.set_num_threads(2)
        packed, window, target = prepared(seed)
        for _ in range(200):
            target.zero_()
            packed(window, target)
            if not torch.equal(target, alone[seed]):
                return False
        return True

    with ThreadPoolExecutor(4) as callers:
        assert all(callers.map(agrees, range(4)))


FORK = """
import os, sys
import torch
from tests.model.convolutions.native.test_winograd_workers import made, prepared
torch.set_num_threads(3)
expected = made()
packed, window, target = prepared(0)  # PyTorch's own threads are lost in a fork
child = os.fork()
packed(window, target)
same = torch.equal(target, expected)
sys.exit(not same or child and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

FORK_AT_WORK = """
import os, signal, sys, threading
import torch
from tests.model.convolutions.native.test_winograd_workers import made, prepared
torch.set_num_threads(2)
expected = made()
packed, window, target = prepared(0)
left = threading.Event()

def other():
    torch.set_num_threads(2)
    one, its_window, its_target = prepared(1)
    while not left.is_set():
        one(its_window, its_target)

thread = threading.Thread(target=other)
thread.start()
failed = 0
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(20)
        packed(window, target)
        os._exit(not torch.equal(target, expected))
    failed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
left.set()
thread.join()
sys.exit(failed)
"""

BOUND = """
import torch
from tests.model.convolutions.native.test_winograd_workers import made
torch.set_num_threads(3)
made()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(
    ("code", "policy"),
    [(FORK, "false"), (FORK_AT_WORK, "false"), (BOUND, "true")],
    ids=["fork", "fork at work", "bound"],
)
def test_a_fork_computes_too_and_so_do_threads_bound_to_cores(code: str, policy: str) -> None:
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_PROC_BIND": policy}
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=300, check=True)

"""The figures of the load test."""

import torch

from benchmarks.load import OURS, Load, bare_px_per_s
from benchmarks.rig.networks import random_generator
from benchmarks.rig.runtimes import ours
from benchmarks.rig.traffic import Answered, Pass, uploads_of
from model.rrdb import RRDBConfig


def test_counters_are_divided_by_the_number_of_batches() -> None:
    one = Pass(wall_s=2.0, answered=[Answered(side=10, seconds=1.0)])
    load = Load(server=OURS, clients=1, passes=[one], counted={"batches": 2.0, "batched_jobs": 5.0})
    assert load.px_per_s == 50
    assert load.per_batch("batched_jobs") == 2.5
    assert Load(server="another", clients=1, passes=[one]).per_batch("batched_jobs") is None


def test_the_bare_network_has_a_rate() -> None:
    net = random_generator(RRDBConfig(channels=4, blocks=1, growth=2, scale=4))
    assert bare_px_per_s(ours(net, torch.device("cpu")), uploads_of([8, 9]), warm_up=1) > 0

"""LitServe runs the same network."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from benchmarks.rig.networks import random_generator
from benchmarks.rig.pictures import smooth_noise
from model.files.checkpoint import Card, write_checkpoint
from model.rrdb import RRDBConfig

pytest.importorskip("litserve")
from benchmarks.rig.litserve_server import SuperResolution


@pytest.mark.parametrize("runtime", ["eager", "ours"])
def test_litserve_answers_in_order_whatever_the_shapes(tmp_path: Path, runtime: str) -> None:
    weights = tmp_path / "tiny.safetensors"
    card = Card(name="tiny", recipe="none", steps=0, data="nothing", metrics={}, created="2026-01-01")
    net = random_generator(RRDBConfig(channels=4, blocks=1, growth=2, scale=4))
    write_checkpoint(weights, net, card, golden_input=torch.zeros(3, 8, 8, dtype=torch.uint8))
    api = SuperResolution(weights, runtime, max_batch_size=4, batch_timeout_s=0.01)
    api.setup("cpu")
    pictures = [smooth_noise(height, 6, seed)[0] for seed, height in enumerate((5, 7, 5))]
    together = api.unbatch(api.predict(api.batch(pictures)))
    alone = [api.predict([picture])[0] for picture in pictures]
    assert [upscaled.shape for upscaled in together] == [(20, 24, 3), (28, 24, 3), (20, 24, 3)]
    assert all(numpy.abs(one.astype(int) - other).max() <= 1 for one, other in zip(together, alone, strict=True))
    answer = Image.open(io.BytesIO(bytes(api.encode_response(together[0]).body)))
    assert (numpy.asarray(answer) == together[0]).all()

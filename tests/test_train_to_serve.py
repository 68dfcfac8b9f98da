"""End to end: photographs, a training run, its file in the service, and the same score."""

import io
import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from app.build import build_service
from app.environment import read_settings
from app.http.application import create_app
from app.library.files import Folder
from app.lifecycle import Lifecycle
from model.files.checkpoint import read_checkpoint
from model.files.reading import SUFFIXES
from model.reliable import load
from tests.app.in_process import started
from tests.model.examples import TINY, textured
from tests.training.photographs import save
from training.__main__ import main
from training.config import TrainingConfig
from training.data import Pair
from training.evaluate import as_service, evaluate
from training.metrics import psnr_y
from training.pairs import read_pairs
from training.recipes import RECIPES, smoke
from training.state import STATE

pytestmark = pytest.mark.anyio

NAME = "smoke-x4"
SIZES = [(64, 96), (67, 53), (149, 41)]
"""Sizes of the validation pictures; the odd ones lose rows and columns that are not a whole low-res pixel."""


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that are not learnt from."""
    folder = tmp_path_factory.mktemp("validation")
    for number, (height, width) in enumerate(SIZES):
        save(textured(height, width, 90 + number), folder / f"{number}.png")
    return folder


def tiny_smoke() -> TrainingConfig:
    """The recipe `smoke` in a second."""
    return replace(smoke(), generator=TINY, steps=24, batch=2, crop_px=16)


@pytest.fixture(scope="module")
def finished(validation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that `python -m training` made."""
    photographs, out = tmp_path_factory.mktemp("photographs"), tmp_path_factory.mktemp("runs") / "tiny"
    for number in range(2):
        save(textured(96, 112, number), photographs / f"{number}.png")
    command = ["smoke", "--data", str(photographs), "--validation", str(validation), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "smoke", tiny_smoke)
        assert main(command) == 0
    return out


async def answer_of(client: httpx.AsyncClient, picture: Tensor) -> Tensor:
    """Upscale uint8 RGB (3, H, W) by POST /v1/upscale."""
    upload = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(upload, "PNG")
    answer = await client.post("/v1/upscale", files={"image": upload.getvalue()})
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)


def test_the_folder_of_a_run_has_no_other_model_than_its_weight_files(finished: Path) -> None:
    assert (finished / STATE).exists()
    folder = Folder(finished, SUFFIXES)
    assert list(folder.files()) == [NAME]
    assert folder.ignored() == {}


@pytest.mark.parametrize("whole_picture_px", [65536, 1], ids=["whole", "as streams"])
async def test_the_service_answers_every_picture_with_the_score_that_training_measured(
    whole_picture_px: int, finished: Path, validation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler, _ = load(finished / f"{NAME}.safetensors")
    pairs = [pair for pair in read_pairs(validation, upscaler.scale) if isinstance(pair, Pair)]
    (measured,) = evaluate("validation", pairs, {NAME: as_service(upscaler)})
    monkeypatch.setenv("ESRGAN_MODELS", str(finished))
    monkeypatch.setenv("ESRGAN_DEFAULT_MODEL", NAME)
    monkeypatch.setenv("ESRGAN_WHOLE_PICTURE_PX", str(whole_picture_px))
    async with started(create_app(Lifecycle.of(build_service(read_settings())))) as it:
        answers = {pair.name: await answer_of(it, pair.low_res) for pair in pairs}
    scores = {pair.name: psnr_y(answers[pair.name], pair.high_res, border=upscaler.scale) for pair in pairs}
    assert len(scores) == len(SIZES)
    for name, score in scores.items():
        assert score == pytest.approx(measured.pictures[name].psnr_y, abs=0.005)  # papers give two digits


def test_the_score_in_the_weight_file_is_the_one_of_the_last_validation(finished: Path, validation: Path) -> None:
    checkpoint = read_checkpoint(finished / f"{NAME}.safetensors")
    last = json.loads((finished / "history.jsonl").read_text().splitlines()[-1])
    measures = {name: round(last[name]["clean"], 4) for name in ("psnr_y", "colour_shift")}
    assert checkpoint.card.metrics == {"validation, clean": measures}
    pairs = [pair for pair in read_pairs(validation, 4) if isinstance(pair, Pair)]
    upscaler, _ = load(finished / f"{NAME}.safetensors")
    (measured,) = evaluate("validation", pairs, {NAME: as_service(upscaler)})
    assert measured.mean.psnr_y == pytest.approx(last["psnr_y"]["clean"], abs=0.05)  # float16 weights, bfloat16 sums

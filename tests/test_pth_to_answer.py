"""A published file serves under its name as soon as it is in the folder."""

import io
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from app.build import build_service
from app.environment import read_settings
from app.http.application import create_app
from app.lifecycle import Lifecycle
from model.export.ncnn_pair import write_generator
from model.rrdb import MARGIN_PX
from tests.app.in_process import started
from tests.model.examples import random_net, textured
from tests.model.files.test_foreign import Compact
from tests.model.published import FIRST_RELEASE, NEW, NamedGenerator, OldGenerator, randomised

SMALL = {"channels": 6, "blocks": 2, "growth": 3}


def networks() -> dict[str, nn.Module]:
    """A network of each kind, as others publish and compute it."""
    return {
        "4x-old": randomised(OldGenerator(scale=4, **SMALL)),
        "first_release": randomised(NamedGenerator(FIRST_RELEASE, scale=4, **SMALL)),
        "x2plus": randomised(NamedGenerator(NEW, scale=2, unshuffle=2, **SMALL)),
        "srvgg": randomised(Compact()),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, net in networks().items():
        torch.save({"params": net.state_dict()}, tmp_path / f"{name}.pth")
    param, weights = write_generator(random_net(), tmp_path)
    param.rename(tmp_path / "pair.param")
    weights.rename(tmp_path / "pair.bin")
    (tmp_path / "broken.pth").write_bytes(b"not a network")
    monkeypatch.setenv("ESRGAN_MODELS", str(tmp_path))
    monkeypatch.setenv("ESRGAN_PRECISION", "float32")  # the rounding of 16 bits depends on the processor
    monkeypatch.setenv("ESRGAN_MAX_LOSS_DB", "1000")  # networks of random weights upscale nothing
    return tmp_path


def expected(net: nn.Module, picture: Tensor, margin_px: int) -> Tensor:
    """Upscale the whole picture with the published network, with a mirrored margin."""
    sides = [
        (margin_px, margin_px + (side % 2 if margin_px else 0)) for side in picture.shape[1:]
    ]  # x2plus takes pairs
    seen = numpy.pad(picture.numpy(), [(0, 0), *sides], mode="symmetric")
    with torch.inference_mode():
        made: Tensor = net(torch.from_numpy(seen)[None] / 255)[0].mul(255).round().clamp(0, 255)
    scale = made.shape[2] // seen.shape[2]
    first, (height, width) = scale * margin_px, (scale * side for side in picture.shape[1:])
    return made[:, first : first + height, first : first + width]


@pytest.mark.anyio
@pytest.mark.usefixtures("folder")
async def test_every_kind_of_published_file_serves_under_its_name_next_to_a_broken_one() -> None:
    picture = textured(13, 9)
    upload = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(upload, "PNG")
    async with started(create_app(Lifecycle.of(build_service(read_settings())))) as it:
        listed = {model["name"]: model["state"] for model in (await it.get("/v1/models")).json()["models"]}
        assert {name for name, state in listed.items() if state == "failed"} == {"broken"}
        for name, net in {**networks(), "pair": random_net()}.items():
            answer = await it.post(f"/v1/upscale?model={name}", files={"image": upload.getvalue()})
            assert answer.status_code == 200, answer.text
            with Image.open(io.BytesIO(answer.content)) as image:
                made = torch.from_numpy(numpy.array(image)).permute(2, 0, 1)
            wanted = expected(net, picture, margin_px=0 if name == "srvgg" else MARGIN_PX)
            assert made.shape == wanted.shape
            assert (made - wanted).abs().max() <= 1

"""Files that went wrong in any way are our error, never somebody else's, whatever they are."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.errors import WeightsError
from model.export.ncnn_pair import write_generator
from model.files.checkpoint import Card, write_checkpoint
from model.files.reading import read_any
from tests.model.examples import random_net, textured
from tests.model.published import NEW, NamedGenerator, OldGenerator, randomised

SIZES = {"channels": 2, "blocks": 1, "growth": 1}
CARD = Card(name="tiny", recipe="by_hand", steps=0, data="noise", metrics={}, created="2026-01-01")


def zipped(folder: Path) -> Path:
    torch.save({"params_ema": randomised(NamedGenerator(NEW, scale=2, **SIZES)).state_dict()}, folder / "net.pth")
    return folder / "net.pth"


def before_zip(folder: Path) -> Path:
    weights = randomised(OldGenerator(scale=2, **SIZES)).state_dict()
    torch.save(weights, folder / "net.pth", _use_new_zipfile_serialization=False)
    return folder / "net.pth"


def foreign_safetensors(folder: Path) -> Path:
    save_file(randomised(OldGenerator(scale=4, **SIZES)).state_dict(), folder / "net.safetensors")
    return folder / "net.safetensors"


def our_safetensors(folder: Path) -> Path:
    write_checkpoint(folder / "net.safetensors", random_net(), CARD, golden_input=textured(5, 5))
    return folder / "net.safetensors"


def ncnn_graph(folder: Path) -> Path:
    return write_generator(random_net(), folder)[0]


def ncnn_weights(folder: Path) -> Path:
    return write_generator(random_net(), folder)[1]


KINDS = (zipped, before_zip, foreign_safetensors, our_safetensors, ncnn_graph, ncnn_weights)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with bytes changed, a part missing, doubled, moved or overwritten: early parts more often than late."""
    wrong = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = int(len(wrong) * chance.random() ** chance.choice((1, 4)))
        length = chance.choice((1, 4, 100))
        match chance.randrange(6):
            case 0:
                wrong[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                wrong = wrong[:place]
            case 2:
                wrong[place : place + length] = b""
            case 3:
                wrong[place:place] = wrong[place : place + length]
            case 4:
                wrong[place : place + length] = chance.randbytes(length)
            case 5:
                wrong[place : place + 8] = chance.choice((b"\xff" * 8, b"\x00" * 8, b"99999999", b"-1 1e999 "[:8]))
    return bytes(wrong)


def read_mutated(kind: Callable[[Path], Path], folder: Path, count: int) -> tuple[int, int]:
    """How many of some mutated files were read, and refused; another error than ours is the caller's."""
    path = kind(folder)
    data = path.read_bytes()
    chance = random.Random(count)
    read, refusals = 0, []
    for _ in range(count):
        path.write_bytes(mutated(data, chance))
        try:
            read_any(path.with_suffix(".param") if path.suffix == ".bin" else path)
            read += 1
        except WeightsError as error:
            refusals.append(str(error))
    assert all(path.stem in refusal for refusal in refusals)
    return read, len(refusals)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutated_file_is_refused_by_us_or_read(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    read, refused = read_mutated(kind, tmp_path, 60)
    assert read + refused == 60
    assert refused > 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_mutated_files_are_refused_by_us_or_read(kind: Callable[[Path], Path], tmp_path: Path) -> None:
    read, refused = read_mutated(kind, tmp_path, 10_000 // len(KINDS) + 1)
    assert min(read, refused) > 0

"""`python -m app upscale`: files in, files out, without a server."""

import errno
import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

from app.__main__ import main
from app.commands import upscale
from app.commands.notes import LOST
from app.commands.options import parse_options
from app.http.parameters import Parameters
from model.pictures.reading import FORMATS, SUFFIXES
from tests.app.conftest import encoded, noise, write_tiny_model


@pytest.fixture(autouse=True)
def folder(models: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures; the tiny model serves."""
    monkeypatch.setenv("ESRGAN_MODELS", str(models))
    folder = tmp_path_factory.mktemp("files")
    for name, size in (("wide.png", (20, 9)), ("sub/tall.jpg", (7, 30))):
        path = folder / "in" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(encoded(noise(*size), "PNG" if path.suffix == ".png" else "JPEG"))
    monkeypatch.chdir(folder)
    return folder


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def kind_of(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as image:
        return image.format, image.size


def test_pictures_of_files_and_folders_are_upscaled(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "other.png").write_bytes(encoded(noise(4, 4)))
    (folder / "in" / "notes.txt").write_text("no picture")
    assert main(["upscale", "in", "other.png", "--out", "out"]) == 0
    assert files(folder / "out") == {"wide.png", "sub/tall.png", "other.png"}
    assert kind_of(folder / "out" / "sub" / "tall.png") == ("PNG", (28, 120))
    printed = capsys.readouterr()
    assert set(printed.out.split()) == {str(folder / "out" / name) for name in files(folder / "out")}
    assert "3 upscaled, 0 there already, 0 failed" in printed.err


def test_every_suffix_of_a_picture_that_pillow_knows_is_one_of_a_folder() -> None:
    Image.init()
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in {*FORMATS, "DIB", "MPO"}}
    assert known <= SUFFIXES
    assert {".jfif", ".jpe", ".apng", ".dib", ".heic", ".hif"} <= SUFFIXES
    guide = (Path(__file__).parents[3] / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert {suffix for suffix in SUFFIXES if f"`{suffix}`" not in guide} == set()


def test_other_files_of_a_folder_are_counted_and_some_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in" / "raw.nef").write_text("no picture")
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert "1 file left out whose suffix is not that of a picture: in/raw.nef\n" in capsys.readouterr().err
    for number in range(5):
        (folder / "in" / f"{number}.txt").write_text("no picture")
    assert main(["upscale", "in", "in", "--out", "out"]) == 0
    named = ", ".join(f"in/{number}.txt" for number in range(5))
    assert f"6 files left out whose suffix is not that of a picture: {named}, ...\n" in capsys.readouterr().err
    assert main(["upscale", "in/wide.png", "--out", "out"]) == 0
    assert "left out" not in capsys.readouterr().err


def test_hidden_files_and_folders_are_not_entered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (".hidden.png", ".thumbnails/small.png", "@eaDir/wide.png/SYNOPHOTO_THUMB_M.jpg", ".notes.txt"):
        path = folder / "in" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(encoded(noise(4, 4)))
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert files(folder / "out") == {"wide.png", "sub/tall.png"}
    assert "left out" not in capsys.readouterr().err
    assert main(["upscale", "in/.thumbnails", "--out", "out"]) == 0
    assert "small.png" in files(folder / "out")


def test_options_become_the_request_that_the_api_makes_of_its_parameters() -> None:
    options = parse_options(["in/wide.png", "--out", "out", "--edges", "wrap", "--ensemble", "--scale", "3"])
    parameters = {"edges": "wrap", "ensemble": "true", "scale": "3"}
    query = Parameters.model_validate(parameters)
    assert options.request == query.model_copy(update={"format": "png"}).request("")


def test_parameters_of_the_api_are_options(folder: Path) -> None:
    assert main(["upscale", "in/wide.png", "--out", "out", "--scale", "2", "--format", "jpeg", "--quality", "50"]) == 0
    assert kind_of(folder / "out" / "wide.jpg") == ("JPEG", (40, 18))


def test_what_is_there_is_not_made_a_second_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "wide.png").write_bytes(b"kept")
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert (folder / "out" / "wide.png").read_bytes() == b"kept"
    assert re.search("1 upscaled, 1 there already.* --again replaces it", capsys.readouterr().err)
    assert main(["upscale", "in/wide.png", "--out", "out", "--again"]) == 0
    assert kind_of(folder / "out" / "wide.png") == ("PNG", (80, 36))


def test_no_network_is_loaded_where_nothing_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "wide.png").write_bytes(b"kept")
    monkeypatch.setattr(upscale, "build_service", lambda settings: pytest.fail("built"))
    assert main(["upscale", "in/wide.png", "--out", "out"]) == 0


def test_a_folder_is_no_answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out" / "wide.png").mkdir(parents=True)
    assert main(["upscale", "in/wide.png", "--out", "out"]) == 1
    assert "error: in/wide.png: its answer, " in capsys.readouterr().err


def test_no_network_is_loaded_for_files_that_cannot_be_pictures(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder / "in" / "pipe.png")
    (folder / "in" / "empty.png").touch()
    monkeypatch.setattr(upscale, "build_service", lambda settings: pytest.fail("built"))
    assert main(["upscale", "in/pipe.png", "in/empty.png", "absent.png", "--out", "out"]) == 1
    errors = capsys.readouterr().err
    assert "error: in/pipe.png: not a regular file\n" in errors
    assert "error: in/empty.png: the file has 0 bytes\n" in errors
    assert "error: absent.png: No such file or directory\n" in errors


def test_a_folder_without_pictures_is_said_to_have_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    assert main(["upscale", "empty", "--out", "out"]) == 0
    assert "no picture found" in capsys.readouterr().err


def test_a_name_of_the_greatest_length_is_kept(folder: Path) -> None:
    long = folder / ("n" * 251 + ".png")
    long.write_bytes(encoded(noise(4, 4)))
    assert main(["upscale", str(long), "--out", "out"]) == 0
    assert files(folder / "out") == {long.name}
    assert main(["upscale", str(long), "--out", "out", "--format", "webp"]) == 1


def test_a_reader_of_the_report_that_leaves_does_not_stop_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("sys.stdout", Closed())
    monkeypatch.setattr("sys.stderr", Closed())
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert files(folder / "out") == {"wide.png", "sub/tall.png"}


def test_names_that_no_terminal_can_show_do_not_stop_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"undecodable \xff", b"bell \a", b"title \x1b]0;x", "right to left \u202e".encode(), "\u00e9".encode()]
    for name in names:
        (folder / "in" / os.fsdecode(name + b".png")).write_bytes(encoded(noise(4, 4)))
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, "ascii", errors="strict", write_through=True))
    assert main(["upscale", "in", "--out", "out"]) == 0
    lines = written.getvalue().decode().splitlines()
    shown = {"undecodable \\udcff", "bell \\x07", "title \\x1b]0;x", "right to left \\u202e", "\\xe9", "wide", "tall"}
    assert {Path(line).stem for line in lines} == shown


def test_a_bad_file_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "bad.png").write_bytes(encoded(noise(9, 9))[:60])
    assert main(["upscale", "in", "absent.png", "--out", "out"]) == 1
    assert files(folder / "out") == {"wide.png", "sub/tall.png"}
    errors = capsys.readouterr().err
    assert "error: in/bad.png: " in errors
    assert "error: absent.png: No such file or directory\n" in errors
    assert "2 upscaled, 0 there already, 2 failed" in errors


@pytest.mark.parametrize("name", ["..png", "...png"])
def test_an_answer_for_a_name_of_dots_is_in_the_folder_of_answers(folder: Path, name: str) -> None:
    (folder / name).write_bytes(encoded(noise(4, 4)))
    assert main(["upscale", f"./{name}", "--out", "out/inner"]) == 0
    assert files(folder / "out") == {f"inner/{name}.png"}


def test_an_input_is_never_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "in" / "wide.png").read_bytes()
    for more in ([], ["--again"]):
        assert main(["upscale", "in/wide.png", "--out", "in", *more]) == 1
        assert "error: in/wide.png: its answer," in capsys.readouterr().err
    assert (folder / "in" / "wide.png").read_bytes() == before


@pytest.mark.parametrize(
    "arguments", [["in", "--out", "in"], ["in", "other.png", "--out", "in"], ["in/sub", "in", "--out", "in/sub"]]
)
def test_answers_never_become_inputs_of_the_next_run(
    folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.png").write_bytes(encoded(noise(4, 4)))
    before = files(folder)
    assert main(["upscale", *arguments]) == 2
    assert f"choose a folder of its own, such as --out {arguments[-1]}/upscaled" in capsys.readouterr().err
    assert files(folder) == before
    assert main(["upscale", *arguments[:-1], f"{arguments[-1]}/upscaled", "--scale", "1"]) == 0
    assert main(["upscale", *arguments[:-1], f"{arguments[-1]}/upscaled", "--scale", "1"]) == 0


def test_an_answer_beside_its_folder_is_no_input_unless_it_lies_inside(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", "in", "--out", "."]) == 0
    (folder / "in" / "in").mkdir()
    (folder / "in" / "in" / "deep.png").write_bytes(encoded(noise(4, 4)))
    assert main(["upscale", "in", "--out", "."]) == 2
    assert "the answer for in/in/deep.png would be in in, " in capsys.readouterr().err


def test_suffixes_are_kept_where_two_answers_would_share_a_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in" / "wide.bmp").write_bytes(encoded(noise(5, 6), "BMP"))
    (folder / "in" / "wide.bmp.gif").write_bytes(encoded(noise(5, 7), "GIF"))
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert files(folder / "out") == {"wide.png.png", "wide.bmp.png", "wide.bmp.gif.png", "sub/tall.png"}
    assert kind_of(folder / "out" / "wide.bmp.png") == ("PNG", (20, 24))
    assert kind_of(folder / "out" / "wide.bmp.gif.png") == ("PNG", (20, 28))
    capsys.readouterr()
    assert main(["upscale", "in", "--out", "out"]) == 0
    assert "0 upscaled, 4 there already" in capsys.readouterr().err


def test_two_pictures_of_one_name_are_not_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "wide.png").write_bytes(encoded(noise(5, 5)))
    assert main(["upscale", "in/wide.png", "wide.png", "--out", "out"]) == 1
    assert "error: wide.png: its answer would have the same name as that of in/wide.png" in capsys.readouterr().err
    assert kind_of(folder / "out" / "wide.png") == ("PNG", (80, 36))
    assert files(folder / "out") == {"wide.png"}


def test_losses_are_said_with_the_option_that_avoids_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = [noise(6, 5, seed=seed).quantize(8) for seed in range(3)]
    (folder / "cat.gif").write_bytes(encoded(first, "GIF", save_all=True, append_images=others))
    (folder / "clear.png").write_bytes(encoded(noise(5, 5, mode="RGBA"), dpi=(300, 300)))
    assert main(["upscale", "cat.gif", "in", "--out", "out", "--format", "same"]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")] == [
        "note: cat.gif: png instead of gif; only the first of 3 pictures; --frames all keeps all of a GIF, WebP or PNG"
    ]
    assert main(["upscale", "cat.gif", "clear.png", "--out", "out", "--format", "jpeg", "--at-once", "1"]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")] == [
        "note: cat.gif: only the first of 3 pictures; --frames all --format webp keeps all of a GIF, WebP or PNG",
        "note: clear.png: without transparency (now on white); --format png holds more",
    ]
    assert main(["upscale", "cat.gif", "clear.png", "in", "--out", "all", "--frames", "all"]) == 0
    assert "note: " not in capsys.readouterr().err


def test_every_loss_of_the_api_has_its_words() -> None:
    api = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
    table = api.partition("### Left out")[2].partition("###")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert LOST.keys() == set(re.findall(r"`(\w+)`", "".join(rows)))


def test_half_an_answer_is_never_left_behind(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert main(["upscale", "in/wide.png", "--out", "out"]) == 1
    assert files(folder / "out") == set()
    assert "error: in/wide.png: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--out", "out"], "PICTURE"),
        (["in"], "--out"),
        (["in", "--out", "out", "--scale", "0", "--edges", "round"], "--edges round"),
        (["in", "--out", "out", "--at-once", "0"], "--at-once 0"),
        (["in", "--out", "out", "--sharpness", "1"], "--sharpness"),
        (["-", "--out", "out"], "/dev/stdin"),
        (["in", "--out", "out", "--model", "runs/absent.pth"], "--model runs/absent.pth: there is no such file"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_an_unknown_model_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "in", "--out", "out", "--model", "nope"]) == 2
    complaint = capsys.readouterr().err
    assert "nope is not in" in complaint
    assert "--model" in complaint
    assert "ESRGAN_DEFAULT_MODEL" not in complaint


@pytest.mark.parametrize("path", ["mine.safetensors", "./mine.safetensors", "weights/mine.safetensors"])
def test_the_model_may_be_a_weight_file(folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESRGAN_DEFAULT_MODEL", "absent")
    Path(path).parent.mkdir(exist_ok=True)
    write_tiny_model(folder, "mine", scale=2).rename(path)
    Path(path).with_name("broken.pth").write_bytes(b"broken")
    assert main(["upscale", "in/wide.png", "--out", "out", "--model", path]) == 0
    assert kind_of(folder / "out" / "wide.png") == ("PNG", (40, 18))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("broken.pth", "--model: no weight file of broken.pth can serve: broken: "),
        ("in/wide.png", "--model: in/wide.png has no weight file"),
    ],
)
def test_a_file_without_weights_is_wrong_usage(
    folder: Path, path: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.pth").write_bytes(b"broken")
    assert main(["upscale", "in", "--out", "out", "--model", path]) == 2
    assert f"error: {complaint}" in capsys.readouterr().err


def test_every_parameter_of_the_api_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--help"])
    printed = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in printed for name in Parameters.model_fields)
    assert "header" not in printed
    assert ".jfif" in printed

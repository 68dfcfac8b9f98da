"""Rendered pictures, drawn with fonts, icons and photographs made here: no Debian package is needed."""

import csv
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from tests.model.examples import textured
from tests.training.photographs import save
from training.__main__ import main
from training.rendered import fields
from training.rendered.colours import Colour, any_colour, css, luma, readable
from training.rendered.kinds import KINDS
from training.rendered.packages import CLIP_ART, FONTS, ICONS, WORDS, Folder, Font
from training.rendered.render import RenderError, drawn, render
from training.rendered.scene import Scene
from training.rendered.sources import Icon, Sources, WordList, _drawings, _words
from training.rendered.words import SCRIPTS, sentence

SIDE = 256
CELLS = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><rect width="8" height="8" fill="#f00"/></svg>'
PIXELS = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><image width="8" height="8" href="a.png"/></svg>'


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """One material of each kind; the font is this machine's sans-serif, even if it has only boxes."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "cells.svg").write_text(CELLS)
    icons = ((Icon(folder / "cells.svg", "icons-here"),),)
    fonts = tuple(Font("sans-serif", style, tuple(SCRIPTS), "fonts-here") for style in ("sans", "mono", "display"))
    photograph = save(textured(300, 320, seed=1), folder / "photograph.png")
    words: dict[str, tuple[WordList, ...]] = {"english": (WordList(("lamp", "window"), "words-here"),)}
    versions = {"icons-here": "1.0-1", "fonts-here": "2.0-1", "words-here": "3.0-1"}
    return Sources(fonts, icons, icons, words, (photograph,), versions)


def pixels(scene: Scene) -> np.ndarray:
    """The picture, H × W × 3."""
    return np.asarray(scene.render().numpy())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("index", range(len(KINDS)), ids=KINDS)
def test_a_picture_is_a_function_of_its_seed_and_number(index: int, sources: Sources) -> None:
    kind, scene = drawn(index, 1, sources, SIDE)
    assert kind == list(KINDS)[index]
    assert drawn(index, 1, sources, SIDE)[1].svg() == scene.svg()
    assert drawn(index, 2, sources, SIDE)[1].svg() != scene.svg()
    assert drawn(index + len(KINDS), 1, sources, SIDE)[1].svg() != scene.svg()


@pytest.mark.parametrize("index", range(len(KINDS)), ids=KINDS)
def test_every_kind_fills_its_picture_the_same_way_twice(index: int, sources: Sources) -> None:
    scene = drawn(index, 3, sources, SIDE)[1]
    first = pixels(scene)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, pixels(scene))
    assert kind_is_plain(index) or np.ptp(first.reshape(-1, 3), axis=0).max() > 30


def kind_is_plain(index: int) -> bool:
    return list(KINDS)[index] == "uniform"


def test_the_manifest_has_every_picture_with_the_packages_it_took_from(tmp_path: Path, sources: Sources) -> None:
    files = list(render(tmp_path, len(KINDS), 1, sources, SIDE))
    manifest = rows(tmp_path)
    assert list(dict.fromkeys(row["file"] for row in manifest)) == [path.name for path in files]
    assert {path.name for path in tmp_path.glob("*.png")} == {path.name for path in files}
    assert {row["kind"] for row in manifest} == set(KINDS)
    assert {(row["package"], row["version"]) for row in manifest if row["package"]} == {
        *sources.versions.items(),
        ("photograph", ""),
    }
    assert all(row["licence"] for row in manifest if row["package"])


def test_what_is_drawn_is_in_the_manifest(tmp_path: Path, sources: Sources) -> None:
    scene = Scene(SIDE, sources, 1, 1)
    scene.text(0, 40, "a", sources.fonts[0], 24, "#000")
    scene.icon(sources.icons[0][0], 0, 0, 16)
    scene.photograph(0, 0, 64, 64)
    assert list(scene.used) == [
        ("sans-serif", "fonts-here"),
        ("cells.svg", "icons-here"),
        ("photograph.png", "photograph"),
    ]


def test_files_are_lossless_rgb_of_the_side_asked_for(tmp_path: Path, sources: Sources) -> None:
    for index, path in enumerate(render(tmp_path, 3, 5, sources, side=300)):
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (300, 300))
            assert np.array_equal(np.asarray(picture), pixels(drawn(index, 5, sources, 300)[1]))


@pytest.mark.parametrize("seed", range(5))
def test_a_uniform_picture_has_exactly_its_colour(seed: int, sources: Sources) -> None:
    scene = Scene(SIDE, sources, seed, 0)
    expected = any_colour(Random(f"{seed} 0"))
    fields.uniform(scene)
    assert np.array_equal(pixels(scene), np.full((SIDE, SIDE, 3), expected, np.uint8))


def test_edges_at_whole_pixels_are_exact(sources: Sources) -> None:
    scene = Scene(SIDE, sources, 1, 1)
    scene.fill((255, 0, 0))
    scene.rect(8, 12, 4, 20, fill=(1, 2, 3))
    expected = np.full((SIDE, SIDE, 3), (255, 0, 0), np.uint8)
    expected[12:32, 8:12] = (1, 2, 3)
    assert np.array_equal(pixels(scene), expected)


def test_slanted_edges_are_antialiased(sources: Sources) -> None:
    scene = Scene(SIDE, sources, 1, 1)
    scene.fill("#fff")
    scene.line(0, 0, SIDE, SIDE / 3, "#000", 4)
    levels = np.unique(pixels(scene))
    assert len(levels) > 10
    assert {levels[0], levels[-1]} == {0, 255}


def test_colours_cover_the_cube_with_its_corners() -> None:
    random = Random(1)
    colours = [any_colour(random) for _ in range(5000)]
    corners = [colour for colour in colours if set(colour) <= {0, 255}]
    assert len(set(corners)) == 8
    inside = [colour for colour in colours if not {0, 255} & set(colour)]
    octants = {tuple(channel // 128 for channel in colour) for colour in inside}
    assert len(octants) == 8
    assert len(inside) > 0.15 * len(colours)


@pytest.mark.parametrize("paper", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0)])
def test_ink_can_be_read_on_its_paper(paper: Colour) -> None:
    random = Random(1)
    assert all(abs(luma(readable(random, paper)) - luma(paper)) >= 0.35 for _ in range(100))


def test_a_photograph_is_set_in_pixel_by_pixel(tmp_path: Path, sources: Sources) -> None:
    photograph = save(textured(100, 120, seed=2), tmp_path / "own.png")
    scene = Scene(SIDE, replace(sources, photographs=(photograph,)), 1, 1)
    scene.photograph(7, 9, 120, 100)
    assert np.array_equal(pixels(scene)[9:109, 7:127], np.asarray(Image.open(photograph)))


def test_a_photograph_is_never_enlarged(sources: Sources) -> None:
    scene = Scene(512, sources, 1, 1)
    scene.photograph(0, 0, 512, 512)
    assert not scene.used
    assert "<image" not in scene.svg()


def test_a_drawing_without_a_view_box_fills_its_frame(sources: Sources) -> None:
    scene = Scene(SIDE, sources, 1, 1)
    scene.fill("#fff")
    scene.icon(sources.icons[0][0], 16, 16, 128)
    expected = np.full((SIDE, SIDE, 3), 255, np.uint8)
    expected[16:144, 16:144] = (255, 0, 0)
    assert np.array_equal(pixels(scene), expected)


def test_a_drawing_that_holds_pixels_is_passed_over(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "pixels.svg").write_text(PIXELS)
    both = (Icon(tmp_path / "pixels.svg", "icons-here"), sources.icons[0][0])
    scene = Scene(SIDE, replace(sources, icons=(both,)), 1, 1)
    assert {icon.path.name for _ in range(30) if (icon := scene.any_icon())} == {"cells.svg"}


def test_a_theme_gives_each_drawing_once_without_broken_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.svg").write_text(CELLS)
    (tmp_path / "a" / "same.svg").symlink_to("one.svg")
    (tmp_path / "a" / "lost.svg").symlink_to("nowhere.svg")
    found = _drawings(Folder(f"{tmp_path}/*/*.svg", "icons-here"))
    assert found == (Icon((tmp_path / "a" / "one.svg").resolve(), "icons-here"),)


def test_word_lists_give_words_without_marks(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("lamp\nlamp's\nÄrger\nx\nabcdefghijklmnop\n", encoding="utf-8")
    assert _words(Folder(f"{tmp_path}/list", "words-here")).words == ("lamp", "Ärger")


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_sentences_and_fonts(script: str) -> None:
    words = sentence(Random(1), script)
    assert len(words) >= 4
    assert all(word and "�" not in word for word in words)
    assert any(script in font.scripts for font in FONTS)


def test_without_the_packages_the_command_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no dpkg-query there
    assert main(["render", "--out", str(tmp_path / "out"), "--count", "1"]) == 2
    said = capsys.readouterr().err
    assert "apt-get install" in said
    assert all(font.package in said for font in FONTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [({"count": 0}, "--count is 0"), ({"side": 100}, "--side is 100"), ({"side": 5000}, "--side is 5000")],
)
def test_numbers_out_of_range_are_refused(change: dict[str, int], named: str, tmp_path: Path, sources: Sources) -> None:
    given = {"count": 1, "seed": 1, "side": SIDE} | change
    with pytest.raises(RenderError, match=named):
        list(render(tmp_path, given["count"], given["seed"], sources, given["side"]))


def test_a_folder_with_files_is_refused(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "mine.png").touch()
    with pytest.raises(RenderError, match="not empty"):
        list(render(tmp_path, 1, 1, sources, SIDE))


def test_the_guide_names_every_package() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "rendered_pictures.md").read_text(encoding="utf-8")
    folders = [*ICONS, *CLIP_ART, *(one for lists in WORDS.values() for one in lists)]
    packages = {font.package for font in FONTS} | {folder.package for folder in folders}
    assert {package for package in packages if f"`{package}`" not in guide} == set()


def test_css_writes_two_digits_a_channel() -> None:
    assert css((0, 10, 255)) == "#000aff"

"""`python -m training photographs` with an archive of tiny packages, which a server on this machine has."""

import csv
import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.__main__ import main
from training.debian import archive, manifest
from training.debian.manifest import Photograph, read_manifest
from training.sources import _TILE

PATH = "usr/share/backgrounds/Green hill.png"
CROPS = "8 0;40 16"
SIDE = 64

Listed = Callable[..., None]
Rebuilt = Callable[..., tuple[int, str]]


def png(seed: int, side: int = 128) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(
            file, format="PNG"
        )
        return file.getvalue()


def member(name: str, content: bytes) -> bytes:
    """A member of an `ar` file."""
    header = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(content):<10}`\n"
    return header.encode() + content + b"\n" * (len(content) % 2)


def deb(files: dict[str, bytes], compression: str = "xz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    packed = gzip.compress(data.getvalue()) if compression == "gz" else lzma.compress(data.getvalue())
    parts = [("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (f"data.tar.{compression}", packed)]
    return b"!<arch>\n" + b"".join(member(name, content) for name, content in parts)


def resource(path: str, content: bytes) -> bytes:
    """A Qt resource of version 1 with one compressed picture in a folder."""
    texts, positions = b"", []
    for part in path.split("/"):
        positions.append(len(texts))
        texts += struct.pack(">HI", len(part), 0) + part.encode("utf-16-be")
    packed = struct.pack(">I", len(content)) + zlib.compress(content)
    blob = struct.pack(">I", len(packed)) + packed
    tree = struct.pack(">IH2I", 0, 2, 1, 1) + struct.pack(">IH2I", positions[0], 2, 1, 2)
    tree += struct.pack(">IHHHI", positions[1], 1, 0, 0, 0)
    return b"qres" + struct.pack(">4I", 1, 20, 20 + len(tree), 20 + len(tree) + len(blob)) + tree + blob + texts


class Mirror:
    """A folder with the files of an archive, and its address."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.asked: list[str] = []

    def add(self, suite: str, version: str, content: bytes, *, package: str = "hills", sha256: str = "") -> Path:
        """Put one version of a package into a suite."""
        path = self.folder / "pool" / f"{package}_{version}.deb"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        index = self.folder / "dists" / suite / "main" / "binary-all" / "Packages.xz"
        index.parent.mkdir(parents=True, exist_ok=True)
        before = lzma.decompress(index.read_bytes()) if index.exists() else b""
        entry = f"""Package: {package}
Version: {version}
Description: hills
 and valleys
Filename: pool/{path.name}
Size: {len(content)}
SHA256: {sha256 or hashlib.sha256(content).hexdigest()}

"""
        index.write_bytes(lzma.compress(before + entry.encode()))
        return path


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    here = Mirror(tmp_path / "mirror")
    here.folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            here.asked.append(self.path)  # each request is logged once, an error twice

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(here.folder)))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_port}"
    yield here
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listed:
    """Replace the manifest by one with these photographs; tiles have 64 px."""
    monkeypatch.setattr("training.debian.tiles.SIDE", SIDE)

    def write(*photographs: tuple[str, bytes], package: str = "hills", scale: float = 1) -> None:
        path = tmp_path / "manifest.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("package", "path", "sha256", "scale", "crops", "licence", "copyright"))
            for name, content in photographs:
                digest = hashlib.sha256(content).hexdigest()
                writer.writerow((package, name, digest, scale, CROPS, "CC0-1.0", "2020 Someone"))
        monkeypatch.setattr("training.commands.photographs.read_manifest", partial(read_manifest, path))

    return write


@pytest.fixture
def rebuilt(tmp_path: Path, mirror: Mirror, capsys: pytest.CaptureFixture[str]) -> Rebuilt:
    """Run the command; returns its status and all that it printed."""

    def run(*more: str) -> tuple[int, str]:
        status = main(["photographs", "--out", str(tmp_path / "out"), "--archive", mirror.url, *more])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_tiles_are_cut_out_of_a_picture_in_a_package(
    compression: str, tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({"usr/share/doc/hills": b"text", PATH: png(1)}, compression))
    status, said = rebuilt()
    assert status == 0
    assert "2 tiles of 1 photographs" in said
    out = tmp_path / "out"
    assert names(out) == ["MANIFEST.csv", "hills_Green_hill_0.png", "hills_Green_hill_1.png"]
    whole = np.asarray(Image.open(io.BytesIO(png(1))))
    np.testing.assert_array_equal(np.asarray(Image.open(out / "hills_Green_hill_1.png")), whole[16:80, 40:104])
    assert rows(out)[0] == {
        "tile": "hills_Green_hill_0.png",
        "package": "hills",
        "version": "1.0-1",
        "licence": "CC0-1.0",
        "copyright": "2020 Someone",
    }


def test_a_photograph_is_reduced_by_lanczos_before_it_is_cut(
    tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1, 151)), scale=0.8)
    mirror.add("sid", "1.0-1", deb({PATH: png(1, 151)}))
    rebuilt()
    reduced = Image.open(io.BytesIO(png(1, 151))).resize((121, 121), Image.Resampling.LANCZOS)
    tile = Image.open(tmp_path / "out" / "hills_Green_hill_0.png")
    np.testing.assert_array_equal(np.asarray(tile), np.asarray(reduced)[0:64, 8:72])


def test_transparency_is_dropped(tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    picture = Image.open(io.BytesIO(png(1)))
    picture.putalpha(128)
    picture.save(tmp_path / "clear.png")
    listed((PATH, (tmp_path / "clear.png").read_bytes()))
    mirror.add("sid", "1.0-1", deb({PATH: (tmp_path / "clear.png").read_bytes()}))
    rebuilt()
    tile = np.asarray(Image.open(tmp_path / "out" / "hills_Green_hill_0.png"))
    np.testing.assert_array_equal(tile, np.asarray(Image.open(io.BytesIO(png(1))))[0:64, 8:72])


def test_any_version_with_the_same_picture_will_do(
    tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1)), ("usr/old.png", png(2)))
    mirror.add("sid", "9.0-1", deb({PATH: png(1), "usr/old.png": png(3)}))
    mirror.add("bullseye", "1.0-1", deb({PATH: png(4), "usr/old.png": png(2)}))
    assert "4 tiles of 2 photographs" in rebuilt()[1]
    versions = {row["tile"]: row["version"] for row in rows(tmp_path / "out")}
    assert versions["hills_Green_hill_0.png"] == "9.0-1"
    assert versions["hills_old_0.png"] == "1.0-1"


def test_no_more_versions_are_downloaded_than_needed(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "9.0-1", deb({PATH: png(1)}))
    mirror.add("bookworm", "1.0-1", deb({PATH: png(1)}))
    rebuilt()
    assert [path for path in mirror.asked if path.endswith(".deb")] == ["/pool/hills_9.0-1.deb"]


def test_a_changed_picture_is_left_out_and_named(
    tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1)), ("usr/same.png", png(2)), ("usr/gone.png", png(3)))
    mirror.add("sid", "1.0-1", deb({PATH: png(4), "usr/same.png": png(2)}))
    status, said = rebuilt()
    assert status == 0
    assert "2 photographs are missing" in said
    assert f"hills {PATH}: only another picture has its path" in said
    assert "hills usr/gone.png: no version in the archive has this file" in said
    assert names(tmp_path / "out") == ["MANIFEST.csv", "hills_same_0.png", "hills_same_1.png"]


def test_a_file_with_another_hash_than_in_the_index_is_not_used(
    tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({PATH: png(1)}), sha256="0" * 64)
    status, said = rebuilt()
    assert status == 0
    assert "and the index says " + "0" * 64 in said
    assert f"hills {PATH}" in said
    assert names(tmp_path / "out") == ["MANIFEST.csv"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"nonsense", "the first bytes are others"),
        (b"!<arch>\n" + member("debian-binary", b"2.0\n"), "no data.tar inside"),
        (b"!<arch>\n" + member("data.tar.xz", b"odd"), "data.tar.xz in the .deb cannot be read"),
        (b"!<arch>\n" + member("data.tar.lzo", b"odd"), "data.tar.lzo in the .deb is compressed in an unknown way"),
        (deb({PATH: png(1)})[:-900], "data.tar.xz in the .deb cannot be read"),
    ],
)
def test_a_broken_file_is_left_out_with_its_reason(
    content: bytes, named: str, mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "2.0-1", content)
    mirror.add("bookworm", "1.0-1", deb({PATH: png(1)}))
    status, said = rebuilt()
    assert status == 0
    assert "hills 2.0-1 is left out" in said
    assert named in said
    assert "2 tiles of 1 photographs" in said


def test_a_file_that_the_archive_lacks_is_left_out(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "2.0-1", deb({PATH: png(1)})).unlink()
    status, said = rebuilt()
    assert status == 0
    assert "hills 2.0-1 is left out" in said
    assert "404" in said


@pytest.mark.parametrize("kind", ["pk3", "rcc", "edj"])
def test_pictures_inside_other_files_are_found(kind: str, mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    jpeg, zipped = io.BytesIO(), io.BytesIO()
    Image.open(io.BytesIO(png(1))).save(jpeg, format="JPEG")
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("maps/hill.png", png(1))
    holders = {
        "pk3": ("maps/hill.png", zipped.getvalue(), png(1)),
        "rcc": ("maps/hill.png", resource("maps/hill.png", png(1)), png(1)),
        "edj": ("jpeg_at_7.jpg", b"seven b" + jpeg.getvalue(), jpeg.getvalue()),
    }
    name, holder, picture = holders[kind]
    listed((f"usr/games/data.{kind}!/{name}", picture))
    mirror.add("sid", "1.0-1", deb({f"usr/games/data.{kind}": holder}))
    assert "2 tiles of 1 photographs" in rebuilt()[1]


@pytest.mark.parametrize("kind", ["pk3", "rcc"])
def test_a_broken_container_is_left_out(kind: str, mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((f"usr/data.{kind}!/a.png", png(1)))
    mirror.add("sid", "1.0-1", deb({f"usr/data.{kind}": b"qres" + b"\xff" * 40}))
    status, said = rebuilt()
    assert status == 0
    assert "hills 1.0-1 is left out" in said


def test_a_picture_that_cannot_be_decoded_is_named_with_the_way_out(
    mirror: Mirror, listed: Listed, rebuilt: Rebuilt
) -> None:
    listed(("usr/a.jxl", b"odd"), (PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({"usr/a.jxl": b"odd", PATH: png(1)}))
    said = rebuilt()[1]
    assert "hills usr/a.jxl: this Pillow cannot decode it; install pillow-jxl-plugin" in said
    assert "2 tiles of 1 photographs" in said


def test_a_second_run_downloads_nothing(tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({PATH: png(1)}))
    rebuilt()
    before, listing = len(mirror.asked), rows(tmp_path / "out")
    assert "2 tiles of 1 photographs" in rebuilt()[1]
    assert len(mirror.asked) == before
    assert rows(tmp_path / "out") == listing


def test_a_tile_that_was_lost_is_made_again(tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({PATH: png(1)}))
    rebuilt()
    (tmp_path / "out" / "hills_Green_hill_1.png").unlink()
    rebuilt()
    assert (tmp_path / "out" / "hills_Green_hill_1.png").is_file()


def test_a_package_that_left_the_archive_is_named(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({}), package="valleys")
    status, said = rebuilt()
    assert status == 0
    assert f"hills {PATH}: the archive has no such package" in said


def test_an_unknown_package_is_refused(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    status, said = rebuilt("--packages", "valleys")
    assert status == 2
    assert "'valleys', which has no photographs here; take one of hills" in said
    assert mirror.asked == []


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://127.0.0.1:1/debian", "cannot be downloaded"),
        ("http://[/debian", "cannot be downloaded"),
        ("ftp://example.org", "has to start with http://"),
        ("mirror", "has to start with http://"),
    ],
)
def test_a_wrong_address_is_an_error_in_one_line(
    url: str, named: str, tmp_path: Path, listed: Listed, capsys: pytest.CaptureFixture[str]
) -> None:
    listed((PATH, png(1)))
    assert main(["photographs", "--out", str(tmp_path / "out"), "--archive", url]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert named in said
    assert said.count("\n") == 1


def test_an_address_without_indexes_is_an_error(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    status, said = rebuilt()
    assert status == 2
    assert "name the root of a Debian mirror" in said


def test_a_broken_index_is_an_error(mirror: Mirror, listed: Listed, rebuilt: Rebuilt) -> None:
    listed((PATH, png(1)))
    index = mirror.folder / "dists" / archive.SUITES[0] / "main" / "binary-all" / "Packages.xz"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"odd")
    status, said = rebuilt()
    assert status == 2
    assert "is not an index of packages" in said


def test_a_full_disk_is_an_error_without_a_tile_cut_short(
    tmp_path: Path, mirror: Mirror, listed: Listed, rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    listed((PATH, png(1)))
    mirror.add("sid", "1.0-1", deb({PATH: png(1)}))
    monkeypatch.setattr(Image.Image, "save", full)
    status, said = rebuilt()
    assert status == 2
    assert "No space left on device" in said
    assert names(tmp_path / "out") == []


def test_the_list_in_the_repository_is_whole() -> None:
    photographs = [photograph for its in read_manifest().values() for photograph in its]
    tiles = [tile.lower() for photograph in photographs for tile in photograph.tiles]
    assert (len(photographs), len(tiles), len(set(tiles))) == (1323, 2202, 2202)
    assert all(len(photograph.sha256) == 64 and photograph.licence for photograph in photographs)
    assert manifest.MANIFEST.stat().st_size < 400_000


def test_tiles_of_a_photograph_stay_on_one_side_of_the_split() -> None:
    hill = Photograph("hills", PATH, "0" * 64, 1, ((0, 0), (512, 0)), "CC0-1.0", "2020 Someone", "hills_Green_hill")
    assert {_TILE.sub("", tile.removesuffix(".png")) for tile in hill.tiles} == {"hills_Green_hill"}

"""Downloads from a local server that misbehaves in every way."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from model.errors import WeightsError
from model.files.catalogue import CATALOGUE, Published, published_as
from model.files.fetching import entry_named, fetch

DATA = bytes(range(256)) * 1000


class Files(BaseHTTPRequestHandler):
    """Sends DATA, or the misbehaviour named by the path."""

    asked: int = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/whole.pth")
            self.end_headers()
            return
        if self.path.startswith("/absent"):
            self.send_error(404)
            return
        self.send_response(200)
        if not self.path.startswith("/endless"):
            self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA[: len(DATA) // 2] if self.path.startswith("/cut") else DATA)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Files.asked = 0
    server = HTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def entry(server: str) -> Callable[[str], Published]:
    sha256 = hashlib.sha256(DATA).hexdigest()
    return lambda path: Published(name="net", url=f"{server}/{path}.pth", sha256=sha256, licence="CC0", about="")


@pytest.mark.parametrize("path", ["whole", "moved", "endless"])
def test_a_file_arrives_whole_under_its_name_and_readable(
    path: str, entry: Callable[[str], Published], tmp_path: Path
) -> None:
    fetched = fetch(entry(path), tmp_path / "models")
    assert fetched == tmp_path / "models" / "net.pth"
    assert fetched.read_bytes() == DATA
    assert fetched.stat().st_mode & 0o777 == 0o644
    assert list(fetched.parent.iterdir()) == [fetched]


def test_an_existing_file_is_not_downloaded_again(entry: Callable[[str], Published], tmp_path: Path) -> None:
    fetch(entry("whole"), tmp_path)
    fetch(entry("whole"), tmp_path)
    assert Files.asked == 1


def test_another_file_of_that_name_stays_as_it_is(entry: Callable[[str], Published], tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"mine")
    with pytest.raises(WeightsError, match="exists already and is another file"):
        fetch(entry("whole"), tmp_path)
    assert (tmp_path / "net.pth").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("cut", r"ended after 128000 of 256000 bytes"), ("absent", "cannot be downloaded .*404")],
)
def test_a_download_that_fails_leaves_nothing(
    path: str, reason: str, entry: Callable[[str], Published], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=reason):
        fetch(entry(path), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_catalogue_says_is_not_kept(server: str, tmp_path: Path) -> None:
    other = Published(name="net", url=f"{server}/whole.pth", sha256="0" * 64, licence="CC0", about="")
    with pytest.raises(WeightsError, match=r"has sha256 [0-9a-f]{64}, not 0{64}"):
        fetch(other, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["whole", "endless"])
def test_a_file_beyond_the_limit_is_given_up(path: str, entry: Callable[[str], Published], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is larger than 1000 bytes"):
        fetch(entry(path), tmp_path, max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_server_is_reported(tmp_path: Path) -> None:
    nowhere = Published(name="net", url="http://127.0.0.1:9/net.pth", sha256="0" * 64, licence="CC0", about="")
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch(nowhere, tmp_path)


def test_an_unknown_name_gets_the_list_of_names() -> None:
    with pytest.raises(WeightsError, match=r"no 'nothing' in the catalogue; there are realesrgan-x4plus, "):
        entry_named("nothing")


def test_names_and_hashes_of_the_catalogue_are_proper_and_unique() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len({entry.sha256 for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.url.startswith("https://")
        assert entry.suffix == ".pth"
        assert published_as(entry.sha256) is entry

"""Weights that others published and that `python -m model fetch` knows, each with the hash of the file.

The hashes are those that independent projects pin for the same files of the release. A file whose hash nobody
published is not in here.
"""

from dataclasses import dataclass

RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"
BSD = "BSD-3-Clause"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A weight file that can be fetched."""

    name: str
    url: str
    sha256: str
    licence: str
    about: str
    needs_spandrel: bool = False
    """It is no RRDB network: it serves where the extra `spandrel` is installed."""

    @property
    def suffix(self) -> str:
        """Of the file, with the dot."""
        return "." + self.url.rpartition(".")[2]


CATALOGUE = (
    Published(
        name="realesrgan-x4plus",
        url=f"{RELEASES}/v0.1.0/RealESRGAN_x4plus.pth",
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        licence=BSD,
        about="x4, 23 blocks: photographs with noise, blur and JPEG damage",
    ),
    Published(
        name="realesrgan-x2plus",
        url=f"{RELEASES}/v0.2.1/RealESRGAN_x2plus.pth",
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        licence=BSD,
        about="x2, 23 blocks behind a pixel-unshuffle: the same at a quarter of the cost",
    ),
    Published(
        name="realesrgan-x4plus-anime",
        url=f"{RELEASES}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        licence=BSD,
        about="x4, 6 blocks: drawings and anime",
    ),
    Published(
        name="realesrnet-x4plus",
        url=f"{RELEASES}/v0.1.1/RealESRNet_x4plus.pth",
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        licence=BSD,
        about="x4, 23 blocks, the PSNR-trained start of realesrgan-x4plus: smoother, invents nothing",
    ),
    Published(
        name="realesr-general-x4v3",
        url=f"{RELEASES}/v0.2.5.0/realesr-general-x4v3.pth",
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        licence=BSD,
        about="x4, a small network (SRVGG): fast",
        needs_spandrel=True,
    ),
    Published(
        name="realesr-general-wdn-x4v3",
        url=f"{RELEASES}/v0.2.5.0/realesr-general-wdn-x4v3.pth",
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        licence=BSD,
        about="x4, the same that keeps noise",
        needs_spandrel=True,
    ),
    Published(
        name="realesr-animevideov3",
        url=f"{RELEASES}/v0.2.5.0/realesr-animevideov3.pth",
        sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        licence=BSD,
        about="x4, a very small network (SRVGG) for frames of anime",
        needs_spandrel=True,
    ),
)


def published_as(sha256: str) -> Published | None:
    """The entry of a file with this hash."""
    return next((entry for entry in CATALOGUE if entry.sha256 == sha256), None)

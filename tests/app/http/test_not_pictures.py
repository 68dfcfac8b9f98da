"""Uploads that are not pictures: the refusal names each, and says what to send instead."""

import base64
import json

import httpx
import pytest

from app.errors import UnsupportedFormat
from app.http.not_pictures import KINDS, refuse_other_kinds
from tests.app.conftest import encoded, noise, problem
from tests.app.pictures.files import FILES

pytestmark = pytest.mark.anyio

PNG = base64.b64encode(encoded(noise(5, 5)))
AS_BYTES = "curl -F image=@FILE"

UPLOADS = {
    "an MP4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "a video (MP4 or MOV)", "extract its frames"),
    "a MOV": (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", "a video (MP4 or MOV)", "extract its frames"),
    "an old MOV": (b"\0\0\0\x08wide\0\0\1\0mdat", "a video (MP4 or MOV)", "extract its frames"),
    "a WebM": (b"\x1aE\xdf\xa3\x9fB\x86\x81\1", "a video (WebM or MKV)", "extract its frames"),
    "an AVI": (b"RIFF\0\n\r\0AVI LIST", "a video (AVI)", "extract its frames"),
    "a PDF": (b"%PDF-1.7\n", "a PDF", "render it"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing", "render it"),
    "an SVG behind a comment": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a -->\n<svg/>',
        "an SVG drawing",
        "render it",
    ),
    "a page": (b"<!DOCTYPE html><title>404</title>", "a page of HTML", AS_BYTES),
    "JSON": (json.dumps({"image": PNG.decode()}).encode(), "JSON", AS_BYTES),
    "a data URL": (b"data:image/png;base64," + PNG, "base64", AS_BYTES),
    "base64": (PNG, "base64", AS_BYTES),
    "a URL": (b"https://a.example/photo.jpg", "a URL", "POST /v1/jobs"),
    "a form": (b"image=%40photo.jpg&scale=2", "a form as application/x-www-form-urlencoded", AS_BYTES),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_of_another_kind_is_refused_by_its_name(client: httpx.AsyncClient, name: str) -> None:
    upload, kind, way_out = UPLOADS[name]
    for path, body in (
        ("/v1/upscale", {"content": upload}),
        ("/v1/upscale", {"files": {"image": upload}}),
        ("/v1/jobs", {"content": upload}),
    ):
        said = problem(await client.post(path, **body), 415, "unsupported-format")
        assert said.startswith(f"the upload is {kind}, not a picture; ")
        assert way_out in said


async def test_habits_of_other_services_are_answered_with_ours(client: httpx.AsyncClient) -> None:
    for body in ({"json": {"image": PNG.decode()}}, {"data": {"image": PNG.decode()}}):
        said = problem(await client.post("/v1/upscale", **body), 415, "unsupported-format")  # type: ignore[arg-type]  # a keyword
        assert AS_BYTES in said
        assert "URLs of pictures go to POST /v1/jobs" in said


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
async def test_the_media_type_of_a_picture_does_not_matter(client: httpx.AsyncClient, kind: str) -> None:
    answer = await client.post("/v1/upscale", content=encoded(noise(5, 5)), headers={"Content-Type": kind})
    assert answer.status_code == 200


async def test_one_of_several_is_refused_by_its_number(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", files=[("image", encoded(noise(5, 5))), ("image", b"%PDF-1.7")])
    assert problem(answer, 415, "unsupported-format").startswith("picture 2: the upload is a PDF")


async def test_an_empty_document_of_a_job_is_not_json(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", content=b"", headers={"Content-Type": "application/json"})
    assert "the body is not JSON" in problem(answer, 400, "bad-request")


def test_every_kind_is_tested() -> None:
    assert {kind.name for kind in KINDS} == {kind for _, kind, _ in UPLOADS.values()}


@pytest.mark.parametrize("name", FILES)
def test_no_picture_is_taken_for_another_kind(name: str) -> None:
    refuse_other_kinds(FILES[name]())


@pytest.mark.parametrize("head", [b"GIF89a=\0\5\0", b"RIFF0=\0\0WEBPVP8 ", b"BMa=\0\0\0\0"])
def test_a_picture_whose_size_reads_like_text_is_not_taken_for_a_form(head: bytes) -> None:
    refuse_other_kinds(head)


def test_an_upload_is_named_by_its_beginning() -> None:
    refuse_other_kinds(b"\0" + b"%PDF-")
    with pytest.raises(UnsupportedFormat):
        refuse_other_kinds(b"%PDF-" + bytes(2000))

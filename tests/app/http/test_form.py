"""Multipart uploads as clients send them, and errors for malformed ones."""

import encodings.aliases
from collections.abc import AsyncIterator

import httpx
import pytest

from app.errors import BadRequest, UnsupportedEncoding
from app.http.form import MAX_FIELD_BYTES, MAX_FIELDS, Form
from app.service import UpscaleService
from tests.app.conftest import decoded, encoded, noise, problem

pytestmark = pytest.mark.anyio

PICTURE = encoded(noise(5, 5))
LARGE = encoded(noise(150, 150))
IMAGE = 'form-data; name="image"'


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    """Make a body with the boundary `b` from parts of a head, starting with the Content-Disposition, and data."""
    heads = (b"--b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (head.encode(), data) for head, data in parts)
    return b"".join(heads) + b"--b" + end


async def read(body: bytes, content_type: str = "multipart/form-data; boundary=b", *, piece_bytes: int = 65536) -> Form:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece_bytes):
            yield body[start : start + piece_bytes]

    made = Form(content_type)
    await made.read(pieces())
    return made


async def refusal(body: bytes, content_type: str = "multipart/form-data; boundary=b") -> str:
    """Return the error text for a form."""
    with pytest.raises(BadRequest) as refused:
        await read(body, content_type)
    return str(refused.value)


async def post(client: httpx.AsyncClient, body: bytes, kind: str = "form-data") -> httpx.Response:
    return await client.post("/v1/upscale", content=body, headers={"Content-Type": f"multipart/{kind}; boundary=b"})


async def test_an_empty_file_is_said_to_be_empty(client: httpx.AsyncClient) -> None:
    named = await post(client, form((f'{IMAGE}; filename="p.png"', b"")))
    assert "the file 'p.png' has 0 bytes" in problem(named, 400, "bad-request")
    unnamed = await post(client, form((f'{IMAGE}; filename=""', b"")))  # as sent by a browser if no file was chosen
    assert "the request has no picture" in problem(unnamed, 400, "bad-request")


@pytest.mark.parametrize("picture", [PICTURE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "disposition",
    [
        IMAGE,
        f'{IMAGE}; filename="p.png"',
        f'{IMAGE}; filename=""',
        f"{IMAGE}; filename*=UTF-8''p.png",
        f"{IMAGE}; filename=\"p.png\"; filename*=UTF-8''%F0%9F%90%B1.png",
        f'{IMAGE}; filename="Größe; „a“.png"',
        "form-data; name=image; filename=p.png",
        f"{IMAGE}\r\nContent-Type: text/plain; charset=punycode",
        f"{IMAGE}\r\nContent-Transfer-Encoding: binary",
    ],
)
async def test_the_field_image_is_the_picture_however_its_file_is_named(disposition: str, picture: bytes) -> None:
    made = await read(form(('form-data; name="scale"', b"2"), (disposition, picture)))
    assert ([bytes(it) for it in made.pictures], made.parameters) == ([picture], {"scale": "2"})


async def test_a_picture_without_a_file_name_gets_the_same_answer_as_the_raw_body(client: httpx.AsyncClient) -> None:
    answer = await post(client, form((IMAGE, PICTURE)))
    assert answer.status_code == 200, answer.text
    assert answer.content == (await client.post("/v1/upscale", content=PICTURE)).content


async def test_a_form_is_parsed_in_chunks_of_any_size() -> None:
    picture = PICTURE + b"\r\n--b\r\r\n--"
    body = form(('form-data; name="scale"', b"2"), (f'{IMAGE}; filename="p.png"', picture))
    for piece_bytes in (1, 2, 3, 7, 50, len(body)):
        made = await read(body, piece_bytes=piece_bytes)
        assert ([bytes(it) for it in made.pictures], made.parameters) == ([picture], {"scale": "2"})


async def test_a_second_picture_is_refused_with_a_hint() -> None:
    detail = await refusal(form((f'{IMAGE}; filename="a"', PICTURE), (f'{IMAGE}; filename="b"', PICTURE)))
    assert "'image' more than once" in detail
    assert "one picture per request" in detail


@pytest.mark.parametrize("others", [[IMAGE], []])
async def test_a_file_under_another_name_is_refused_by_that_name(others: list[str]) -> None:
    parts = [(f'{other}; filename="a"', PICTURE) for other in others]
    detail = await refusal(form(*parts, ('form-data; name="mask"; filename="m.png"', PICTURE)))
    assert "a file as 'mask'; send the picture as the field 'image', and no other file" in detail


async def test_a_picture_as_a_text_field_of_another_name_is_refused_by_that_name() -> None:
    detail = await refusal(form(('form-data; name="photo"', LARGE)))
    assert f"'photo' has more than {MAX_FIELD_BYTES} bytes" in detail
    assert "send the picture as the field 'image'" in detail
    detail = await refusal(form(('form-data; name="photo"', PICTURE[:50])))
    assert "'photo' is not UTF-8" in detail


@pytest.mark.parametrize("head", ["form-data", "form-data; name=", "form-data; name*=UTF-8''image", "", "garbage;;;="])
async def test_a_part_without_a_name_is_refused_with_an_example(head: str) -> None:
    assert 'form-data; name="image"' in await refusal(form((head, PICTURE)))


async def test_a_field_given_twice_is_refused_by_its_name() -> None:
    parts = [(IMAGE, PICTURE), ('form-data; name="scale"', b"2"), ('form-data; name="scale"', b"3")]
    assert "'scale' is given more than once" in await refusal(form(*parts))


async def test_more_fields_than_there_can_be_parameters_are_refused() -> None:
    parts = [(f'form-data; name="f{number}"', b"") for number in range(MAX_FIELDS + 1)]
    assert f"more than {MAX_FIELDS} fields" in await refusal(form(*parts, (IMAGE, PICTURE)))


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\nContent-Disposition: form"])
async def test_an_incomplete_form_is_refused(end: bytes) -> None:
    assert "ends before its last boundary" in await refusal(form((IMAGE, PICTURE), end=end))


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("multipart/form-data", "has no boundary"),
        ("multipart/form-data; boundary=", "has no boundary"),
        ("multipart/form-data; boundary=" + "b" * 300, "multipart body is malformed"),
        ("Multipart/Form-Data ; boundary=c", "multipart body is malformed"),
    ],
)
async def test_a_missing_boundary_is_named(content_type: str, said: str) -> None:
    assert said in await refusal(form((IMAGE, PICTURE)), content_type)


async def test_other_kinds_of_multipart_are_refused_by_name(client: httpx.AsyncClient) -> None:
    answer = await post(client, form((IMAGE, PICTURE)), "mixed")
    assert "multipart/mixed" in problem(answer, 415, "unsupported-format")


async def test_a_charset_chosen_by_the_caller_is_never_used() -> None:
    for charset in {*encodings.aliases.aliases.values(), "undefined", "idna", "unicode_escape", "no such thing"}:
        assert (await in_charset(charset, "größe".encode())).parameters == {"model": "größe"}


@pytest.mark.parametrize("value", [b"\xff", "größe".encode("latin-1"), b"+\xed\xa0\x80"])
async def test_text_that_is_not_utf_8_is_refused_by_the_name_of_its_field(value: bytes) -> None:
    with pytest.raises(BadRequest, match="the form field 'model' is not UTF-8"):
        await in_charset("latin-1", value)


async def in_charset(charset: str, value: bytes) -> Form:
    head = f'form-data; name="model"\r\nContent-Type: text/plain; charset="{charset}"'
    return await read(form((head, value)), f'multipart/form-data; charset="{charset}"; boundary=b')


@pytest.mark.parametrize("coding", ["GZIP", "identity, br", "x" * 500])
async def test_a_compressed_body_is_refused_by_the_name_of_its_coding(client: httpx.AsyncClient, coding: str) -> None:
    for content_type in ("image/png", "multipart/form-data; boundary=b"):
        headers = {"Content-Encoding": coding, "Content-Type": content_type}
        answer = await client.post("/v1/upscale", content=PICTURE, headers=headers)
        detail = problem(answer, 415, "unsupported-encoding")
        assert coding.lower().split(", ")[-1][:100] in detail
        assert len(detail) < 300
        assert answer.headers["accept-encoding"] == "identity"


async def test_a_compressed_body_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    read: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        read.append("the body")
        yield b""

    answer = await client.post("/v1/upscale", content=body(), headers={"Content-Encoding": "gzip"})
    problem(answer, 415, "unsupported-encoding")
    assert not read


async def test_the_coding_identity_is_accepted(client: httpx.AsyncClient) -> None:
    for coding in ("", "identity", "Identity, identity"):
        decoded(await client.post("/v1/upscale", content=PICTURE, headers={"Content-Encoding": coding}))


@pytest.mark.parametrize("header", ["Content-Transfer-Encoding: base64", "Content-Encoding: gzip"])
async def test_an_encoded_part_is_refused_by_name(header: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=header.lower()):
        await read(form((f"{IMAGE}\r\n{header}", PICTURE)))


async def test_refused_forms_leave_no_memory_behind(client: httpx.AsyncClient, service: UpscaleService) -> None:
    for body in (form((IMAGE, LARGE), end=b""), form((IMAGE, PICTURE), (IMAGE, PICTURE)), form(("", LARGE))):
        assert (await post(client, body)).status_code == 400
    assert service.uploads.used_bytes == 0

"""Computations of the page, run in a browser and compared with independent implementations."""

import base64
import io
import zipfile
from typing import Any

import numpy
import pytest
from PIL import ExifTags, Image, ImageOps

from tests.app.conftest import encoded, noise
from tests.app.live import Live
from tests.browser.page import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def person(person: Person, live: Live) -> Person:
    await person.page.goto(f"{live.address}/")
    return person


async def call(person: Person, script: str, name: str, given: Any) -> Any:
    """Call a function of a script with these arguments; returns its result."""
    source = f"""async ([folder, given]) => {{
        const part = await import(folder + {script!r});
        return part[{name!r}](...given);
    }}"""
    return await person.run(source, given)


async def test_bicubic_is_that_of_pillow_to_one_level(person: Person) -> None:
    picture = noise(13, 9).convert("RGBA")
    pixels = {"data": list(picture.tobytes()), "width": 13, "height": 9}
    source = """async ([folder, pixels]) => {
        const { enlarge } = await import(folder + "bicubic.js");
        return [...enlarge(pixels, 52, 36).data];
    }"""
    ours = numpy.array(await person.run(source, pixels)).reshape(36, 52, 4)
    # In floating point, since Pillow rounds and clips 8-bit pictures between its two passes.
    channels = [Image.fromarray(channel) for channel in numpy.asarray(picture, dtype=numpy.float32).transpose(2, 0, 1)]
    enlarged = [numpy.asarray(channel.resize((52, 36), Image.Resampling.BICUBIC)) for channel in channels]
    theirs = numpy.stack(enlarged, axis=-1).clip(0, 255)
    inside = (slice(8, -8), slice(8, -8))  # beyond a border ours repeats it, and Pillow leaves it out
    assert numpy.abs(ours - theirs)[inside].max() <= 1


async def test_the_page_says_what_will_come_out(person: Person) -> None:
    expected = [
        ({}, (400, 300)),
        ({"scale": 2.5}, (250, 188)),
        ({"width": 3840}, (3840, 2880)),
        ({"height": 33}, (44, 33)),
        ({"max_side": 50}, (50, 38)),
        ({"megapixels": 3}, (2000, 1500)),
    ]
    for settings, (width, height) in expected:
        size = await call(person, "sizes.js", "sizeOfAnswer", [{"width": 100, "height": 75}, settings, 4])
        assert size == {"width": width, "height": height}, settings


@pytest.mark.parametrize(
    ("name", "field"),
    [("photo.jpg", "image=@photo.jpg"), ("a,b;c.jpg", "'image=@\"a,b;c.jpg\"'"), ('a"b.jpg', '\'image=@"a\\"b.jpg"\'')],
)
async def test_the_line_for_a_terminal_names_any_file(person: Person, name: str, field: str) -> None:
    line = await call(person, "results.js", "curlLine", ["http://a/v1/upscale", {"name": name}, {}, "out.png", False])
    assert line == f"curl -F {field} http://a/v1/upscale -o out.png"


@pytest.mark.parametrize("chosen", [{}, {"width": 3840}, {"megapixels": 12}])
async def test_a_result_of_unknown_size_is_named_without_one(person: Person, chosen: dict[str, int]) -> None:
    picture = {"name": "scan.tiff", "width": 0, "height": 0}
    factor = await call(person, "sizes.js", "factorOf", [picture, chosen, None])
    name = await call(person, "results.js", "nameOfResult", [picture, {"settings": chosen}, None, factor])
    assert (factor, name) == (None, "scan_upscaled.png")


@pytest.mark.parametrize("name", ["L" * 296 + ".png", "🐘" * 99 + ".png"])
async def test_a_long_name_leaves_room_in_the_255_bytes_of_file_systems(person: Person, name: str) -> None:
    picture = {"name": name, "width": 8, "height": 8}
    named = await call(person, "results.js", "nameOfResult", [picture, {"settings": {}}, None, 4])
    assert named == f"{name.encode()[:200].decode()}_x4.png"


async def test_names_in_a_zip_file_differ_in_more_than_upper_and_lower_case(person: Person) -> None:
    names = ["a.png", "A.png", "a (2).png", "b", "a.png"]
    assert await call(person, "save_actions.js", "unique", [names]) == [
        "a.png",
        "A (2).png",
        "a (2) (2).png",
        "b",
        "a (3).png",
    ]


async def test_images_that_cannot_be_read_leave_no_address_behind(person: Person) -> None:
    source = """async ([folder]) => {
        const { imageOf } = await import(folder + "images.js");
        const revoked = [];
        URL.revokeObjectURL = (address) => revoked.push(address);
        const image = await imageOf(new Blob(["no picture"]));
        return [image, revoked.length];
    }"""
    assert await person.run(source) == [None, 1]


@pytest.mark.parametrize("orientation", [3, 6, 8])
async def test_photos_that_have_to_be_turned_are_drawn_upright(person: Person, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo = encoded(noise(5, 3).resize((80, 48)), "JPEG", exif=exif, quality=100, subsampling=0)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(photo)))
    source = """async ([folder, given]) => {
        const { bicubicOf, cropOf, imageOf, thumbnailOf } = await import(folder + "images.js");
        const file = new Blob([Uint8Array.from(atob(given), (letter) => letter.charCodeAt(0))]);
        const image = await imageOf(file);
        const size = { width: image.naturalWidth, height: image.naturalHeight };
        const crop = await cropOf(file, { x: 5, y: 7, width: 30, height: 20 });
        const twice = { width: 2 * size.width, height: 2 * size.height };
        const canvases = [await thumbnailOf(file, image, 24), await bicubicOf(file, size, twice)];
        const read = async (blob) => btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())));
        const drawn = canvases.map((canvas) => new Promise((resolve) => canvas.toBlob(resolve)));
        return Promise.all([crop, ...(await Promise.all(drawn))].map(read));
    }"""
    drawn = await person.run(source, base64.b64encode(photo).decode())
    width, height = upright.size
    reduced, enlarged = (
        upright.resize((round(width * share), round(height * share)), Image.Resampling.BICUBIC) for share in (0.5, 2)
    )
    for content, expected in zip(drawn, (upright.crop((5, 7, 35, 27)), reduced, enlarged), strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
        assert picture.size == expected.size
        assert numpy.abs(numpy.asarray(picture, dtype=float) - numpy.asarray(expected)).mean() < 3


async def test_events_are_read_whatever_pieces_they_come_in(person: Person) -> None:
    source = """async ([folder]) => {
        const { eventsOf } = await import(folder + "events.js");
        const state = 'id: 1\\nevent: state\\ndata: {"name":\\ndata: "é"}';
        const text = ["retry: 1", state, ": still here", "data: last", ""].join("\\n\\n");
        const bytes = new TextEncoder().encode(text);
        const body = new ReadableStream({
            start(stream) {
                for (let at = 0; at < bytes.length; at += 3) stream.enqueue(bytes.slice(at, at + 3));
                stream.close();
            },
        });
        const events = [];
        for await (const event of eventsOf(body)) events.push(event);
        return events;
    }"""
    assert await person.run(source) == [
        {"event": "state", "data": '{"name":\n"é"}'},
        {"event": "message", "data": "last"},
    ]


async def test_the_zip_file_is_one_that_others_read(person: Person) -> None:
    source = """async ([folder]) => {
        const { zipOf } = await import(folder + "zip.js");
        const files = ["one.txt", "zwei ü.txt"].map((name) => ({ name, blob: new Blob([name.repeat(9)]) }));
        const bytes = new Uint8Array(await (await zipOf(files)).arrayBuffer());
        return btoa(String.fromCharCode(...bytes));
    }"""
    content = base64.b64decode(await person.run(source))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            name: name * 9 for name in ("one.txt", "zwei ü.txt")
        }


async def test_a_zoom_keeps_the_point_under_the_pointer(person: Person) -> None:
    view = {"zoom": 0.5, "x": 10, "y": -20}
    point = {"x": 123, "y": 45}
    before = await call(person, "view.js", "picturePoint", [view, point])
    closer = await call(person, "view.js", "zoomedAt", [view, 3, point])
    assert await call(person, "view.js", "picturePoint", [closer, point]) == pytest.approx(before)


async def test_a_part_near_a_corner_stays_in_the_picture(person: Person) -> None:
    part = await call(person, "lens.js", "partAround", [{"x": 0, "y": 399}, 0.25, {"width": 100, "height": 100}, 40])
    assert part["seen"] == {"x": 0, "y": 60, "width": 40, "height": 40}
    assert part["read"] == {"x": 0, "y": 44, "width": 56, "height": 56}


async def test_parameters_that_the_page_does_not_know_are_offered_as_openapi_describes_them(person: Person) -> None:
    parameters = [
        {"name": "texture", "in": "query", "schema": {"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}},
        {"name": "grain", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3}},
        {"name": "Prefer", "in": "header", "schema": {"type": "string"}},
    ]
    source = """async ([folder, parameters]) => {
        const { parametersOf } = await import(folder + "parameters.js");
        const { SettingsForm } = await import(folder + "form.js");
        const openapi = { paths: { "/v1/upscale": { post: { parameters } } } };
        for (const name of ["model", "scale"]) parameters.push({ name, in: "query", schema: { type: "number" } });
        const root = document.createElement("form");
        const models = { default: "m", models: [{ name: "m", scale: 4, state: "ready", fidelity: null }] };
        const form = new SettingsForm(root, parametersOf(openapi), models);
        const set = (name, value) => (root.querySelector("#setting-" + name).value = value);
        const before = form.values;
        set("texture", "b");
        set("grain", "5");
        return [before, form.values];
    }"""
    assert await person.run(source, parameters) == [{}, {"texture": "b", "grain": 5}]

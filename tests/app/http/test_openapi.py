"""The documented contract: checks the OpenAPI document, and runs the examples of docs/api.md."""

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.errors import DeadlinePassed, ServiceError
from app.http.application import create_app
from tests.app.conftest import encoded, noise
from tests.app.in_process import without_models
from tests.app.live import Live

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def written() -> dict[str, Any]:
    """The document in the repository."""
    document: dict[str, Any] = json.loads((DOCS / "openapi.json").read_text())
    return document


async def test_the_openapi_document_is_up_to_date(written: dict[str, Any]) -> None:
    app = create_app(without_models())
    assert json.loads(json.dumps(app.openapi())) == written, "run `make openapi`"


def test_limits_of_numbers_are_in_the_openapi_document(written: dict[str, Any]) -> None:
    parameters = written["paths"]["/v1/upscale"]["post"]["parameters"]
    number, _ = next(it["schema"]["anyOf"] for it in parameters if it["name"] == "scale")
    assert number == {"type": "number", "exclusiveMinimum": 0, "maximum": 16}


def test_schemas_have_names_that_generators_of_clients_can_use(written: dict[str, Any]) -> None:
    schemas = written["components"]["schemas"]
    titles = [schema["title"] for schema in schemas.values()]
    assert len(set(titles)) == len(titles)
    assert [name for name in schemas if not name.isalnum()] == []
    assert {"JobState", "ModelState"} <= schemas.keys()


def test_every_error_is_in_the_openapi_document(written: dict[str, Any]) -> None:
    text = json.dumps(written)
    for error in (*ServiceError.__subclasses__(), *DeadlinePassed.__subclasses__()):
        assert f"`{error.type}`: {error.title}" in text


def test_every_status_of_the_main_endpoint_is_described_with_its_problems(written: dict[str, Any]) -> None:
    answers = written["paths"]["/v1/upscale"]["post"]["responses"]
    expected = {400, 401, 403, 404, 406, 408, 413, 415, 421, 422, 429, 431, 500, 501, 503, 504, 507}
    assert {int(status) for status in answers} == expected | {200, 202}
    assert re.findall(r"`(.*?)`", answers["501"]["description"]) == ["not-implemented", "jobs-off"]
    assert re.findall(r"`(.*?)`", answers["504"]["description"]) == ["deadline-passed", "read-too-slowly"]


def test_all_problems_have_one_schema(written: dict[str, Any]) -> None:
    operations = [operation for path in written["paths"].values() for operation in path.values()]
    answers = [answer for operation in operations for answer in operation["responses"].items()]
    problems = [answer["content"] for status, answer in answers if int(status) >= 400]
    assert len(problems) > 100
    shared = {"$ref": "#/components/schemas/Problem"}
    assert all(content == {"application/problem+json": {"schema": shared}} for content in problems)


def test_every_status_is_in_the_documentation(written: dict[str, Any]) -> None:
    text = (DOCS / "api.md").read_text()
    for status in written["paths"]["/v1/upscale"]["post"]["responses"]:
        assert status in ("200", "202") or f"| {status} |" in text


def examples() -> list[str]:
    """The commands and programs of the first section, in order."""
    section = (DOCS / "api.md").read_text().split("## Upscale")[1].split("\n## ")[0]
    commands = re.findall(r"(?m)^    (curl (?:.*\\\n)*.*)$", section)
    programs = re.findall(r"(?s)```python\n(.*?)```", section)
    assert len(commands) >= 3
    assert len(programs) >= 2
    return [*commands, *programs]


@pytest.mark.parametrize("example", examples(), ids=lambda text: text.split()[0] + str(len(text)))
async def test_the_examples_of_the_documentation_run(live: Live, example: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(noise(20, 16), "JPEG"))
    second = noise(20, 16, seed=1)
    (tmp_path / "cat.gif").write_bytes(encoded(noise(20, 16), "GIF", save_all=True, append_images=[second]))
    # A photograph as wide as a screen would take too long.
    text = example.replace("http://127.0.0.1:8000", live.address).replace("width=3840", "width=80")
    if text.startswith("curl"):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        command = ["bash", "-ec", text.replace("curl ", "curl --fail --silent --show-error ")]
    else:
        command = [sys.executable, "-W", "error", "-c", text]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(DOCS.parent)}
    )
    assert await asyncio.wait_for(process.wait(), 60) == 0
    check_answers(tmp_path)


def check_answers(folder: Path) -> None:
    answers = [path for path in folder.iterdir() if re.search(r"_x\d+|_4k", path.name)]
    assert answers
    for path in answers:
        factor = 4 if "4k" in path.name else int(re.findall(r"_x(\d+)", path.name)[0])
        with Image.open(path) as image:
            assert image.size == (20 * factor, 16 * factor)
            assert path.suffix == f".{(image.format or '').lower()}"

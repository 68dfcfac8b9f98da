"""Options of `python -m app upscale`: the parameters of the API, from the same definition."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from fastapi.exceptions import RequestValidationError

from app.errors import ServiceError
from app.http.parameters import Parameters
from app.pictures.decode import SUFFIXES
from app.upscaling import UpscaleRequest

AT_ONCE = 8
"""Default number of files processed at a time: enough to fill batches, and to decode while the device works."""

PICTURE_HELP = (
    "A picture, or a folder with pictures, also in folders inside it: files that end in "
    f"{', '.join(sorted(SUFFIXES))}. Names that begin with a dot are left out."
)

OUT_HELP = (
    "Folder for the answers: photo.png for photo.jpg. Where two pictures would share a name, it keeps their suffixes: "
    "photo.jpg.png for photo.jpg and photo.tif.png for photo.tif."
)

HELP = {
    "model": "Name of the model, or the path of a weight file; by default the service's default model.",
    "format": "Format of the answer, `same` for the picture's; png by default.",
}
"""Help for parameters whose description is about HTTP."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line."""

    inputs: tuple[Path, ...]
    """Files and folders."""
    out: Path
    weights: Path | None
    """Weight file to use in place of the models."""
    request: UpscaleRequest
    again: bool
    """Upscale files whose answer is there already."""
    at_once: int


def parse_options(arguments: list[str]) -> Options:
    """Parse a command line; ends the process with status 2 where it is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    values = {name: _text(value) for name in Parameters.model_fields if (value := getattr(given, name)) is not None}
    values.setdefault("format", "png")
    weights = _path_in(values.get("model", ""))
    if weights:
        del values["model"]
    try:
        request = Parameters.of(Parameters(), values).request(accept="")
    except RequestValidationError as error:
        parser.error("; ".join(_complaint(each) for each in error.errors()))
    except ServiceError as error:
        parser.error(error.detail)
    if Path("-") in given.inputs:
        parser.error("-: a picture from standard input has the name /dev/stdin, and must be a file: < photo.jpg")
    if given.at_once < 1:
        parser.error(f"--at-once {given.at_once}: must be at least 1")
    if weights and not weights.is_file():
        parser.error(f"--model {weights}: there is no such file")
    return Options(
        inputs=tuple(given.inputs),
        out=given.out,
        weights=weights,
        request=request,
        again=given.again,
        at_once=given.at_once,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app upscale",
        description="Upscale pictures without a server. The settings ESRGAN_* count as for the service.",
        epilog="Exit status: 0 if every picture is there, 1 if some failed, 2 for wrong usage or settings.",
        allow_abbrev=False,
    )
    parser.add_argument("inputs", type=Path, nargs="+", metavar="PICTURE", help=PICTURE_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help=OUT_HELP)
    parser.add_argument("--again", action="store_true", help="Replace answers that exist.")
    parser.add_argument(
        "--at-once", type=int, default=AT_ONCE, metavar="N", help=f"Files processed at a time; {AT_ONCE} by default."
    )
    parameters = parser.add_argument_group("parameters of the API")
    for name, field in Parameters.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        help_text = HELP.get(name, field.description or "").replace("%", "%%")
        if field.annotation is bool:
            parameters.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, help=help_text)
        else:
            parameters.add_argument(option, dest=name, metavar=_metavar(field.annotation), help=help_text)
    return parser


def _path_in(model: str) -> Path | None:
    """Return the path of a weight file, if this is one and not the name of a model."""
    path = Path(model)
    return path if len(path.parts) > 1 or path.is_file() else None


def _metavar(annotation: Any) -> str:
    """Name the values of a parameter: its choices, or their kind."""
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, kinds))
    if len(kinds) == 1 and kinds[0] is not annotation:
        return _metavar(kinds[0])
    return "TEXT" if annotation is str else "NUMBER"


def _text(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _complaint(error: Mapping[str, Any]) -> str:
    where = "".join(f"--{str(part).replace('_', '-')} " for part in error["loc"][:1])
    return f"{where}{error['input']}: {error['msg']}"

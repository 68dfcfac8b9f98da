"""python -m model: show, convert, export, test, mix, transfer, resize and download weight files."""

import argparse
import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from model.device import CPU, FORMATS, DeviceMemoryError
from model.errors import WeightsError
from model.export.exporting import KINDS, Options, export, parts, target_path
from model.files.catalogue import CATALOGUE
from model.files.checkpoint import FORMAT, Card, Checkpoint, write_checkpoint
from model.files.dialects import BY_SHAPE
from model.files.fetching import entry_named, fetch
from model.files.reading import read, read_any
from model.flat_colours import correct_colours
from model.gate import MAX_LOSS_DB, refuse_far_from_bicubic
from model.golden import SelfTestError
from model.inspection import check, describe
from model.interpolation import InterpolationError, blended, transferred
from model.picture_upscaler import SuspiciousOutputError
from model.reliable import ReliableUpscaler
from model.resizing import ResizingError, resized
from model.rrdb import SCALES

SHIPPED = Path(__file__).parent / "weights"
"""The folder that the service serves by default."""

REFUSALS = (
    *(WeightsError, SelfTestError, InterpolationError, ResizingError, DeviceMemoryError, SuspiciousOutputError),
    OSError,
)
"""Errors that are printed in one line, without a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 1 if a file is refused, with the reason in one line."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except REFUSALS as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model", description="Weight files of ESRGAN generators.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    info = commands.add_parser("info", help="describe a file: sizes, scale, cost, origin, hash")
    info.add_argument("file", type=Path, help=".safetensors, .pth, .pt, .ckpt, or the .param of an ncnn pair")
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info)

    convert = commands.add_parser("convert", help="write a self-describing .safetensors file with a golden picture")
    convert.add_argument("file", metavar="IN", type=Path)
    convert.add_argument("out", metavar="OUT", type=Path, help="a .safetensors file, or a folder")
    _add_scale(convert)
    convert.add_argument("--name", help="name of the model; by default that of the file")
    convert.add_argument("--licence", help="licence of the weights")
    convert.add_argument("--source", help="origin of the weights")
    convert.add_argument("--data", help="training data, with its licence")
    convert.add_argument("--dtype", choices=FORMATS, default="float32", help="number format of the stored weights")
    convert.add_argument(
        "--flat-colours",
        action="store_true",
        help="correct the last convolution, so that flat colours stay as they are",
    )
    convert.add_argument("--force", action="store_true", help="replace OUT where it exists")
    convert.set_defaults(run=_convert)

    _add_export(commands.add_parser("export", help="write a file for another program, and check it there first"))

    checking = commands.add_parser(
        "check", help="test a file on this machine as the service does, and measure its speed"
    )
    checking.add_argument("file", type=Path)
    checking.add_argument("--json", action="store_true", help="as JSON")
    checking.set_defaults(run=_check)

    mix = commands.add_parser("interpolate", help="mix two generators, one trained from the other")
    mix.add_argument("first", metavar="A", type=Path)
    mix.add_argument("second", metavar="B", type=Path)
    mix.add_argument("--alpha", type=float, required=True, help="0 is A, 1 is B")
    _add_scale(mix)
    mix.add_argument("-o", "--out", type=Path, required=True, help="a .safetensors file")
    mix.add_argument("--force", action="store_true", help="replace OUT where it exists")
    mix.set_defaults(run=_interpolate)

    _add_transfer(
        commands.add_parser("transfer", help="add what training changed in one generator to another of its origin")
    )
    _add_resize(
        commands.add_parser("resize", help="make a wider generator, or one of fewer blocks, to train it further")
    )

    fetching = commands.add_parser("fetch", help="download a published file; without a name, list the catalogue")
    fetching.add_argument("name", nargs="?")
    fetching.add_argument("--out", metavar="FOLDER", type=Path, default=SHIPPED, help="default: %(default)s")
    fetching.set_defaults(run=_fetch)
    return parser


def _add_scale(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scale", type=int, choices=SCALES, help="scale of the network; needed for x3 only")


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", type=Path)
    command.add_argument(
        "--to", choices=KINDS, required=True, help="ONNX, PyTorch (spandrel, chaiNNer), or an ncnn pair"
    )
    command.add_argument("-o", "--out", type=Path, default=Path(), help="a file, or a folder (default: this one)")
    _add_scale(command)
    command.add_argument("--no-margin", dest="margin", action="store_false", help="ONNX: leave out the mirrored margin")
    command.add_argument("--keep-growth", action="store_true", help="PyTorch: keep the network's own growth")
    command.add_argument("--unchecked", dest="checked", action="store_false", help="write it without the check")
    command.add_argument("--force", action="store_true", help="replace files that exist")
    command.set_defaults(run=_export)


def _add_transfer(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="IN", type=Path)
    command.add_argument("out", metavar="OUT", type=Path, help="a .safetensors file")
    command.add_argument("--before", type=Path, required=True, help="the other generator before that training")
    command.add_argument("--after", type=Path, required=True, help="the same one after it")
    command.add_argument("--alpha", type=float, default=1.0, help="share of the difference (default: %(default)g)")
    _add_scale(command)
    command.add_argument("--force", action="store_true", help="replace OUT where it exists")
    command.set_defaults(run=_transfer)


def _add_resize(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="IN", type=Path)
    command.add_argument("out", metavar="OUT", type=Path, help="a .safetensors file")
    command.add_argument("--channels", type=int, help="default: those of IN, as for growth")
    command.add_argument("--growth", type=int)
    command.add_argument(
        "--without", type=int, nargs="+", default=[], metavar="BLOCK", help="blocks to leave out, from 0"
    )
    _add_scale(command)
    command.add_argument("--seed", type=int, default=0, help="of the weights of added features")
    command.add_argument("--force", action="store_true", help="replace OUT where it exists")
    command.set_defaults(run=_resize)


def _generator(path: Path, scale: int | None) -> Checkpoint:
    """Read a generator that will be written as one of our files.

    Our files have a golden picture, so the service trusts them and compares only other files with bicubic. A generator
    that was recognised by its shapes alone is therefore compared here.
    """
    checkpoint = read(path, scale=scale)
    if checkpoint.format.startswith(BY_SHAPE):
        refuse_far_from_bicubic(ReliableUpscaler(copy.deepcopy(checkpoint), CPU, dtype=torch.float32), MAX_LOSS_DB)
    return checkpoint


def _info(options: argparse.Namespace) -> int:
    print(_shown(asdict(describe(read_any(options.file))), as_json=options.json))
    return 0


def _convert(options: argparse.Namespace) -> int:
    checkpoint = _generator(options.file, options.scale)
    given = {name: getattr(options, name) for name in ("name", "licence", "source", "data")}
    out = _target(options.out, options.name or checkpoint.card.name, options.force)
    card = replace(_origin(checkpoint, options.file, out), **{name: one for name, one in given.items() if one})
    golden = checkpoint.golden_input
    if options.flat_colours:
        if checkpoint.net.config.colours != 3:
            raise WeightsError(f"{options.file} is for grey pictures; --flat-colours needs a network for RGB")
        correct_colours(checkpoint.net)
        card = replace(card, recipe=f"{card.recipe}, flat colours corrected", metrics={})
    write_checkpoint(out, checkpoint.net, card, golden_input=golden, dtype=FORMATS[options.dtype])
    print(f"wrote {out}")
    return 0


def _origin(checkpoint: Checkpoint, path: Path, out: Path) -> Card:
    """Return the card of a converted file: its own if the file is one of ours, else one made of what is known."""
    if checkpoint.format == FORMAT:
        return checkpoint.card
    return replace(
        checkpoint.card,
        name=out.stem,
        recipe=f"converted from {checkpoint.format}",
        source=checkpoint.card.source or f"{path.name}, sha256 {checkpoint.sha256}",
    )


def _export(options: argparse.Namespace) -> int:
    checkpoint = read(options.file, scale=options.scale)
    target = target_path(options.out, checkpoint.card.name, options.to)
    for path in parts(target):
        _check_free(path, options.force)
    how = Options(kind=options.to, checked=options.checked, margin=options.margin, keep_growth=options.keep_growth)
    exported = export(checkpoint, target, how)
    print(f"wrote {' and '.join(map(str, exported.files))}")
    for note in exported.notes:
        print(f"note: {note}")
    return 0


def _check(options: argparse.Namespace) -> int:
    findings = check(read_any(options.file))
    print(_shown(asdict(findings), as_json=options.json))
    for failure in findings.failures:
        print(f"error: {options.file}: {failure}", file=sys.stderr)
    return 1 if findings.failures else 0


def _interpolate(options: argparse.Namespace) -> int:
    first, second = (_generator(path, options.scale) for path in (options.first, options.second))
    mixed = blended(first, second, options.alpha)
    out = _target(options.out, options.out.stem, options.force)
    write_checkpoint(out, mixed.net, replace(mixed.card, name=out.stem), golden_input=mixed.golden_input)
    print(f"wrote {out}")
    return 0


def _transfer(options: argparse.Namespace) -> int:
    files = (options.file, options.before, options.after)
    generator, before, after = (_generator(path, options.scale) for path in files)
    made = transferred(generator, before, after, options.alpha)
    out = _target(options.out, options.out.stem, options.force)
    write_checkpoint(out, made.net, replace(made.card, name=out.stem), golden_input=made.golden_input)
    print(f"wrote {out}")
    return 0


def _resize(options: argparse.Namespace) -> int:
    checkpoint = _generator(options.file, options.scale)
    net = resized(
        checkpoint.net,
        channels=options.channels,
        growth=options.growth,
        without=options.without,
        seed=options.seed,
    )
    out = _target(options.out, options.out.stem, options.force)
    sizes = f"{net.config.channels}/{net.config.blocks}/{net.config.growth}"
    without = f" without {' '.join(map(str, options.without))}" if options.without else ""
    card = _origin(checkpoint, options.file, out)
    card = replace(card, name=out.stem, recipe=f"{checkpoint.card.name} resized to {sizes}{without}", metrics={})
    write_checkpoint(out, net, card, golden_input=checkpoint.golden_input)
    print(f"wrote {out}: {sizes} (channels/blocks/growth), {net.config.macs_per_low_res_px / 1e6:.2f} MMAC per LR px")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    if options.name is None:
        for entry in CATALOGUE:
            print(f"{entry.name:26}{entry.licence:14}{entry.about}{'; needs spandrel' * entry.needs_spandrel}")
        return 0
    print(f"fetched {fetch(entry_named(options.name), options.out)}")
    return 0


def _target(out: Path, name: str, force: bool) -> Path:
    path = out / f"{name}.safetensors" if out.is_dir() else out
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} must end in .safetensors")
    _check_free(path, force)
    return path


def _check_free(path: Path, force: bool) -> None:
    if not path.parent.is_dir():
        raise WeightsError(f"{path.parent} is not a folder; make it first")
    if path.exists() and not force:
        raise WeightsError(f"{path} exists already; --force replaces it")


def _shown(values: dict[str, object], *, as_json: bool) -> str:
    if as_json:
        finite = {name: None if value in (float("inf"), float("-inf")) else value for name, value in values.items()}
        return json.dumps(finite, indent=2)
    width = max(map(len, values))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {_words(value)}" for name, value in values.items())


def _words(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value) if value != "" else "not said"


if __name__ == "__main__":
    sys.exit(main())

"""Write a generator for another program, checked in it before the file gets its name."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from model.errors import WeightsError
from model.export.checks import bare_output, ncnn_output, onnx_output, spandrel_output
from model.export.ncnn_pair import write_generator
from model.export.pth_file import KNOWN_GROWTH, write_pth
from model.files.checkpoint import Checkpoint, reference_output
from model.files.reading import golden_picture
from model.resizing import resized
from model.rrdb import UNSHUFFLES, RRDBNet

Kind = Literal["onnx", "pth", "ncnn"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WORST_LEVELS = 1
"""Maximum difference of the other program's picture from ours, in 8-bit levels."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices of an export."""

    kind: Kind
    checked: bool = True
    """False: write the file even if the other program is missing or makes another picture."""
    margin: bool = True
    """ONNX: the model adds the service's margin itself. False for programs with overlapping tiles."""
    keep_growth: bool = False
    """PyTorch: keep the growth. False: widen it to the one that other programs assume."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Files of an export, and notes for their user."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def export(checkpoint: Checkpoint, target: Path, options: Options) -> Exported:
    """Write a generator as `target`, whole or not at all; an ncnn pair as `target` and a `.bin` next to it.

    Raises:
        MissingRuntimeError: the package that checks the file is not installed.
        WeightsError: the format cannot hold this network, or the other program makes another picture.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        unfinished = Path(folder) / target.name
        write = {"onnx": _write_onnx, "pth": _write_pth, "ncnn": _write_ncnn}[options.kind]
        notes = write(checkpoint, unfinished, options)
        made = sorted(Path(folder).iterdir())
        files = tuple(path.replace(target.with_name(path.name)) for path in made)
    return Exported(files=files, notes=notes)


def target_path(out: Path, name: str, kind: Kind) -> Path:
    """Name the file: `out` itself, or the model's name in the folder `out`.

    Raises:
        WeightsError: `out` has another suffix than the kind.
    """
    suffix = ".param" if kind == "ncnn" else f".{kind}"
    path = out / f"{name}{suffix}" if out.is_dir() else out
    if path.suffix != suffix:
        raise WeightsError(f"{path} must end in {suffix}")
    return path


def parts(target: Path) -> tuple[Path, ...]:
    """List the files that an export as `target` writes."""
    return (target, target.with_suffix(".bin")) if target.suffix == ".param" else (target,)


def _write_onnx(checkpoint: Checkpoint, path: Path, options: Options) -> tuple[str, ...]:
    try:
        from model.export.onnx_file import to_onnx
    except ImportError as error:
        raise WeightsError("ONNX files are written where onnx is installed: pip install onnx onnxruntime") from error
    net = checkpoint.net
    margin_px = net.config.margin_px if options.margin else 0
    path.write_bytes(to_onnx(net, margin_px=margin_px, properties=_properties(checkpoint)))
    if options.checked:
        for picture in (golden_picture(), checkpoint.golden_input):  # two sizes: neither may be fixed in the model
            seen = picture if options.margin else _cut(picture)
            ours = reference_output(net, picture) if options.margin else bare_output(net, seen)
            _compare(onnx_output(path, seen), ours, path, "ONNX Runtime")
    return ()


def _write_ncnn(checkpoint: Checkpoint, path: Path, options: Options) -> tuple[str, ...]:
    net = checkpoint.net
    config = net.config
    write_generator(net, path.parent, path.stem)
    if options.checked:
        picture = _test_picture(net)
        _compare(ncnn_output(path, picture, config.inputs), bare_output(net, picture), path, "ncnn")
    notes = list[str]()
    if config.unshuffle > 1:
        notes.append(f"sides of pictures must be multiples of {config.unshuffle}")
    if config.inputs != 3:
        notes.append(f"it takes {config.inputs} channels and makes {config.colours}")
    return (*notes, *_without_margin(net))


def _write_pth(checkpoint: Checkpoint, path: Path, options: Options) -> tuple[str, ...]:
    net, notes = checkpoint.net, list[str]()
    if options.checked and net.config.padding_mode != "zeros":
        raise WeightsError(
            f"{checkpoint.card.name} repeats the border in every convolution, which a .pth cannot say: other programs "
            "would pad by zeros and draw a rim; export to onnx or ncnn, or take --unchecked"
        )
    if net.config.growth < KNOWN_GROWTH and not options.keep_growth:
        before = net.config
        net = resized(net, growth=KNOWN_GROWTH, gain=0)
        more = net.config.macs_per_low_res_px / before.macs_per_low_res_px
        notes.append(
            f"growth {before.growth} was widened to {KNOWN_GROWTH} by zero weights, since spandrel knows no other: the "
            f"same pictures for {more:.1f} times the work; --keep-growth leaves it"
        )
    write_pth(net, path)
    if options.checked:
        picture = _test_picture(net)
        _compare(spandrel_output(path, picture), bare_output(checkpoint.net, picture), path, "spandrel")
    return (*notes, *_without_margin(net))


def _test_picture(net: RRDBNet) -> Tensor:
    """Return a picture that other programs accept: grey for a network with one input channel."""
    picture = _cut(golden_picture())
    return picture[:1].expand(3, -1, -1) if net.config.inputs == 1 else picture


def _cut(picture: Tensor) -> Tensor:
    """Cut the sides to multiples of the largest unshuffle."""
    height, width = (max(side - side % UNSHUFFLES[-1], 1) for side in picture.shape[1:])
    return picture[:, :height, :width]


def _without_margin(net: RRDBNet) -> tuple[str, ...]:
    """Return a note for networks whose borders differ from those of the service."""
    if not net.config.margin_px:
        return ()
    return (
        f"the service shows this network {net.config.margin_px} mirrored pixels around a picture; add them there too",
    )


def _compare(made: Tensor, ours: Tensor, path: Path, program: str) -> None:
    """Refuse a file that gives a different picture in the other program.

    Raises:
        WeightsError: it does.
    """
    if made.shape != ours.shape:
        sizes = ["x".join(map(str, one.shape[1:])) for one in (made, ours)]
        raise WeightsError(f"{path.name} was not written: {program} makes {sizes[0]} px of it and we {sizes[1]}")
    worst = int((made.int() - ours.int()).abs().max())
    if worst > WORST_LEVELS:
        raise WeightsError(
            f"{path.name} was not written: {program} makes a picture that differs from ours by {worst} levels of 255, "
            f"more than {WORST_LEVELS}; --unchecked writes it anyway"
        )


def _properties(checkpoint: Checkpoint) -> dict[str, str]:
    """Describe the generator inside an ONNX file."""
    card = checkpoint.card
    known = {
        "name": card.name,
        "scale": str(checkpoint.net.config.scale),
        "licence": card.licence,
        "source": card.source,
        "data": card.data,
        "sha256": checkpoint.sha256,
    }
    return {name: text for name, text in known.items() if text}

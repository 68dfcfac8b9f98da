"""Rename the weights of published ESRGAN generators to our names, and read the sizes off their shapes.

A dialect is a table of renamings. Prefixes of names (`params_ema.`, `module.`, `generator.`, ...) are found, not
listed: a prefix is the text before the tell-tale name of a dialect. If a file has several generators, the moving
average is used.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.errors import OtherNetworkError, WeightsError
from model.files.by_shape import IN_A_BLOCK, generators_by_shape
from model.rrdb import MAX_SIZE, PaddingMode, RRDBConfig, RRDBNet

MAX_TIMES = 4
"""Maximum bytes of the weights in float32 for each byte in the file; float16 takes 2."""

READABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""Number formats of published weights; they are converted to float32."""

PREFERRED = ("average", "ema", "net_g", "netg", "generator", "params")
"""Words in prefixes that select one of several generators in a file, best first: moving averages."""

DENSE = r"RDB([123])\.(conv[1-5])"
"""Pattern of a convolution of a dense block in the older dialects."""

Tensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One convention for the names of a generator's weights."""

    name: str
    tell_tale: str
    """Name of a weight that every generator has, in this dialect only."""
    renamings: tuple[tuple[str, str], ...] = ()
    """Patterns of names without their prefix, and their replacements."""


NEW = Dialect(name="Real-ESRGAN (body, conv_body)", tell_tale="body.0.rdb1.conv1.weight")
FIRST_RELEASE = Dialect(
    name="ESRGAN's first release (RRDB_trunk, trunk_conv)",
    tell_tale="RRDB_trunk.0.RDB1.conv1.weight",
    renamings=(
        (rf"RRDB_trunk\.(\d+)\.{DENSE}\.", r"body.\1.rdb\2.\3."),
        (r"trunk_conv\.", "conv_body."),
        (r"upconv(\d+)\.", r"conv_up\1."),
        (r"HRconv\.", "conv_hr."),
    ),
)
OLD = Dialect(
    name="old ESRGAN (model.1.sub)",
    tell_tale="model.1.sub.0.RDB1.conv1.0.weight",
    renamings=(
        (r"model\.0\.", "conv_first."),
        (rf"model\.1\.sub\.(\d+)\.{DENSE}\.0\.", r"body.\1.rdb\2.\3."),
        (r"model\.1\.sub\.\d+\.(?=weight|bias)", "conv_body."),
    ),
)
DIALECTS = (NEW, FIRST_RELEASE, OLD)

BY_SHAPE = "ESRGAN's convolutions under other names"
"""Dialect of generators that are recognised by their shapes alone."""

NUMBERED = re.compile(r"model\.(\d{1,9})\.(weight|bias)")
"""Convolutions behind the trunk in the old dialect; their number gives the scale."""


def recognised(tensors: Mapping[str, Tensor], *, in_order: bool = False) -> tuple[str, Tensors] | None:
    """Find a generator among some weights: the name of its dialect, and its weights under our names; None if absent.

    Args:
        in_order: the weights are in the order in which the network was created, so unknown names can be recognised by
            their shapes.

    Raises:
        WeightsError: there are several generators, and none is the obvious one.
    """
    for dialect in DIALECTS:
        prefixes = [name.removesuffix(dialect.tell_tale) for name in tensors if _ends_with(name, dialect.tell_tale)]
        if prefixes:
            prefix = _chosen(prefixes)
            named = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
            return dialect.name, _numbered_tail({_renamed(dialect, name): one for name, one in named.items()})
    if in_order and (unnamed := generators_by_shape(tensors)):
        return BY_SHAPE, unnamed[_chosen(list(unnamed))]
    return None


def generator(tensors: Tensors, scale: int | None = None, padding_mode: PaddingMode = "zeros") -> RRDBNet:
    """Build the network of these weights, which have our names; the biases may be missing if all of them are.

    Args:
        scale: scale of the network; read off the weights by default. Needed for 3, whose weights look like those of 2.
        padding_mode: padding of its convolutions, which no weight shows.

    Raises:
        OtherNetworkError: the weights are not exactly those of a generator.
        WeightsError: they are not finite, or share so few numbers that they would be far larger than in the file.
    """
    if plus := next((name for name in tensors if ".conv1x1." in name), None):
        text = f"is an ESRGAN+ network ({plus}), whose dense blocks have one more path than ESRGAN's"
        raise OtherNetworkError(text, tensors)
    try:
        config, complete = _complete(tensors, scale, padding_mode)
    except WeightsError as error:  # other architectures contain blocks of ESRGAN's, too
        raise OtherNetworkError(str(error), tensors) from error
    _refuse_shared(complete)
    return RRDBNet.of(config, {name: _finite(name, weight) for name, weight in complete.items()})


def _complete(tensors: Tensors, scale: int | None, padding_mode: PaddingMode) -> tuple[RRDBConfig, Tensors]:
    """Return the sizes of a network and all of its weights, with the biases that are missing."""
    config = sizes(tensors, scale, padding_mode)
    if config.inputs == 4:  # drop its alpha output: the alpha of a picture goes through as a plane of its own
        tensors = {name: one[:3] if name.startswith("conv_last.") else one for name, one in tensors.items()}
    biases = any(name.endswith(".bias") for name in tensors)
    refuse_other_shapes(config, tensors, biases=biases)
    return config, tensors if biases else tensors | _zero_biases(config)


def sizes(tensors: Mapping[str, Tensor], scale: int | None = None, padding_mode: PaddingMode = "zeros") -> RRDBConfig:
    """Read the sizes of a network off its weights, which have our names.

    Raises:
        WeightsError: no network can have such weights.
    """
    channels, seen, *_ = _shape(tensors, "conv_first.weight")
    growth = _shape(tensors, "body.0.rdb1.conv1.weight")[0]
    colours = _shape(tensors, "conv_last.weight")[0]
    blocks = 1 + max(int(name.split(".")[1]) for name in tensors if re.match(r"body\.\d{1,9}\.", name))
    enlargement = 3 if scale == 3 else 2 ** sum(bool(re.fullmatch(r"conv_up\d+\.weight", name)) for name in tensors)
    inputs, unshuffle = _entrance(seen, colours)
    if max(channels, growth, blocks) > MAX_SIZE:
        raise WeightsError(f"has {channels} channels, {blocks} blocks, growth {growth}; {MAX_SIZE} is the most")
    if enlargement % unshuffle or scale not in (None, enlargement // unshuffle):
        raise WeightsError(f"enlarges by {enlargement} behind an unshuffle of {unshuffle}; that is not x{scale or 1}")
    try:
        return RRDBConfig(
            channels=channels,
            blocks=blocks,
            growth=growth,
            scale=enlargement // unshuffle,
            inputs=inputs,
            unshuffle=unshuffle,
            padding_mode=padding_mode,
        )
    except ValueError as error:
        raise WeightsError(f"holds no network that can serve: {error}") from error


def refuse_other_shapes(config: RRDBConfig, tensors: Mapping[str, Tensor], *, biases: bool = True) -> None:
    """Compare weights under our names with those of a network of that size.

    Args:
        biases: biases are among them.

    Raises:
        WeightsError: a weight is missing, superfluous or of another shape.
    """
    if len(tensors) < IN_A_BLOCK * config.blocks:  # to list the weights of a thousand blocks takes seconds
        raise WeightsError(f"does not hold a network of {config}: it has only {len(tensors)} weights")
    with torch.device("meta"):
        net = RRDBNet(config)
    expected = {name: tuple(one.shape) for name, one in net.state_dict().items() if biases or name.endswith("weight")}
    found = {name: tuple(weight.shape) for name, weight in tensors.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        name = wrong[0]
        raise WeightsError(
            f"does not hold a network of {config}: {name} is {found.get(name, 'missing')}, "
            f"expected {expected.get(name, 'no such weight')} ({len(wrong)} of {len(expected)} differ)"
        )


def _ends_with(name: str, tell_tale: str) -> bool:
    return name == tell_tale or name.endswith("." + tell_tale)


def _chosen(prefixes: list[str]) -> str:
    """Choose one of several generators in a file by the prefixes of their names."""
    if len(prefixes) == 1:
        return prefixes[0]
    for word in PREFERRED:
        if len(having := [prefix for prefix in prefixes if word in prefix.lower()]) == 1:
            return having[0]
    found = ", ".join(repr(prefix) for prefix in sorted(prefixes)[:5])
    raise WeightsError(f"holds {len(prefixes)} generators, under {found}; save the one to serve alone")


def _renamed(dialect: Dialect, name: str) -> str:
    for pattern, ours in dialect.renamings:
        renamed, changed = re.subn(rf"\A{pattern}", ours, name)
        if changed:
            return renamed
    return name


def _numbered_tail(tensors: Tensors) -> Tensors:
    """Rename the numbered convolutions: the last two are `conv_hr` and `conv_last`, those before `conv_up1`, ..."""
    numbers = sorted({int(match[1]) for name in tensors if (match := NUMBERED.fullmatch(name))})
    names = [f"conv_up{step}" for step in range(1, len(numbers) - 1)] + ["conv_hr", "conv_last"]
    ours = dict(zip(numbers, names[-len(numbers) :], strict=True)) if numbers else {}
    return {
        f"{ours[int(match[1])]}.{match[2]}" if (match := NUMBERED.fullmatch(name)) else name: weight
        for name, weight in tensors.items()
    }


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    weight = tensors.get(name)
    if weight is None:
        raise WeightsError(f"lacks {name}")
    if weight.dim() != 4 or not weight.numel():
        raise WeightsError(f"has {name} of shape {tuple(weight.shape)}, not that of a convolution")
    return tuple(weight.shape)


def _entrance(seen: int, colours: int) -> tuple[int, int]:
    """Return the inputs per pixel and the unshuffle: 12 input channels for 3 colours mean 3 inputs, unshuffle 2."""
    entrances = {(inputs * side**2, inputs): (inputs, side) for inputs in (1, 3, 4) for side in (1, 2, 4)}
    if (seen, colours) == (4, 3):  # reads RGBA, makes RGB
        return 4, 1
    if (seen, colours) not in entrances:
        raise WeightsError(
            f"takes {seen} channels and makes {colours}; grey, RGB and RGBA networks can serve, plain or behind a "
            "pixel-unshuffle of 2 or 4"
        )
    return entrances[seen, colours]


def _zero_biases(config: RRDBConfig) -> Tensors:
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in RRDBNet(config).state_dict().items()}
    return {name: torch.zeros(shape) for name, shape in shapes.items() if name.endswith(".bias")}


def _refuse_shared(tensors: Tensors) -> None:
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors.values()}
    stored, needed = sum(storages.values()), sum(4 * one.numel() for one in tensors.values())
    if needed > MAX_TIMES * stored:
        raise WeightsError(
            f"has {needed} bytes of weights in float32 that share {stored} bytes of the file; {MAX_TIMES} for each is "
            "the most: save a clone() of each weight"
        )


def _finite(name: str, weight: Tensor) -> Tensor:
    if weight.dtype not in READABLE:
        raise WeightsError(f"{name} is stored as {weight.dtype}, not as one of {', '.join(map(str, READABLE))}")
    if not (exact := weight.float().contiguous()).isfinite().all():
        raise WeightsError(f"{name} holds NaN or infinity in {weight.dtype}; it cannot serve")
    return exact

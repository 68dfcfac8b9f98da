"""Recognise generators with unknown names by the order and the shapes of their convolutions.

A state dict lists weights in the order in which the parts of a network were created, and every ESRGAN generator is
created from its input to its output. This only works for files that keep that order; `.safetensors` files do not.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from torch import Tensor

MAX_DEPTH = 3
"""Maximum number of words in the prefix that wraps the names of a generator, as in `state_dict.generator.`."""

IN_A_BLOCK = 15
"""Convolutions of a residual-in-residual dense block."""

AROUND_BLOCKS = 4
"""`conv_first`, `conv_body`, `conv_hr` and `conv_last`."""

MAX_ENLARGEMENTS = 4

Tensors = dict[str, Tensor]


def generators_by_shape(tensors: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """Find every generator among some weights: the prefix of its names -> its weights under our names."""
    found: dict[str, Tensors] = {}
    seen: set[frozenset[str]] = set()
    for prefix, inside in under_prefixes(tensors).items():
        if (names := frozenset(inside)) not in seen and (renamed := _renamed(inside)):
            found[prefix] = renamed
        seen.add(names)
    return found


def convolution_names(blocks: int, enlargements: int) -> Iterator[str]:
    """Yield our names of a generator's convolutions, in the order in which it runs them."""
    yield "conv_first"
    for block in range(blocks):
        for rdb in (1, 2, 3):
            for conv in range(1, 6):
                yield f"body.{block}.rdb{rdb}.conv{conv}"
    yield "conv_body"
    yield from (f"conv_up{step}" for step in range(1, enlargements + 1))
    yield from ("conv_hr", "conv_last")


def under_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensors]:
    """Return the weights under every prefix of their names, shortest first: `a.b.c` has "", `a.` and `a.b.`."""
    found: dict[str, Tensors] = {"": dict(tensors)}
    for depth in range(1, MAX_DEPTH + 1):
        for name, one in tensors.items():
            words = name.split(".", depth)
            if len(words) > depth:
                found.setdefault(".".join(words[:depth]) + ".", {})[name] = one
    return found


def _renamed(tensors: Tensors) -> Tensors | None:
    """Rename the weights of a generator; None if they are not exactly those of one.

    A generator with B blocks and E enlargements has 15 B + E + 4 convolutions, so the number gives both, since E is at
    most 4: 349 convolutions are 23 blocks and no enlargement.
    """
    stems = list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))
    wanted = {f"{stem}.{kind}" for stem in stems for kind in ("weight", "bias")}
    weights = [tensors.get(f"{stem}.weight") for stem in stems]
    blocks, enlargements = divmod(len(stems) - AROUND_BLOCKS, IN_A_BLOCK)
    if blocks < 1 or enlargements > MAX_ENLARGEMENTS or not tensors.keys() <= wanted:
        return None
    shapes = [tuple(weight.shape) for weight in weights if weight is not None]
    if not _is_generator(shapes, blocks, enlargements) or not _counts_up(stems[1 : 1 + IN_A_BLOCK * blocks]):
        return None
    ours = dict(zip(stems, convolution_names(blocks, enlargements), strict=True))
    return {f"{ours[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": one for name, one in tensors.items()}


def _is_generator(shapes: Sequence[tuple[int, ...]], blocks: int, enlargements: int) -> bool:
    """Check that these are the weights of a generator's convolutions, all of them, in their order."""
    if len(shapes) < 2 or any(len(shape) != 4 for shape in shapes):
        return False
    channels, seen, *_ = shapes[0]
    growth, colours = shapes[1][0], shapes[-1][0]
    dense = [(growth, channels + step * growth) for step in range(4)] + [(channels, channels + 4 * growth)]
    rest = [(channels, channels)] * (enlargements + 2)
    expected = [(channels, seen), *(dense * 3 * blocks), *rest, (colours, channels)]
    return list(shapes) == [(*both, 3, 3) for both in expected]


def _counts_up(stems: Sequence[str]) -> bool:
    """Check that the numbers in the names of a trunk increase: names sorted as text have block 10 before block 2."""
    numbers = [[int(number) for number in re.findall(r"\d+", stem[:200])] for stem in stems]
    return all(len(one) != len(other) or one <= other for one, other in pairwise(numbers))

"""Configs from text: `config.json` of a run, and `--set optimiser.learning_rate=1e-4` over any config.

Both become one JSON-like tree, from which the frozen dataclasses are made, so every check of theirs applies.
"""

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from training.config import CHANGEABLE, TrainingConfig
from training.errors import ConfigError
from training.loss_config import VGG_LAYERS

DEFAULT = "default"
"""Text that stands for a part of a config with all of its defaults, as in `degradation=default`."""

RECORDS = {
    "recipe": "it is the recipe that the command names",
    "starts_from": "it belongs to the recipe; name another one",
    "start": "it records the file of --start",
    "start_discriminator": "it records the file of --start-discriminator",
    "teacher": "it records the file of --teacher",
}
"""Fields that say where a run comes from, each with the reason why no setting changes it."""


def with_settings(config: TrainingConfig, settings: Sequence[str]) -> TrainingConfig:
    """Replace fields of a config by texts such as `batch=4`, `optimiser.betas=0.9,0.99` or `discriminator=none`.

    Raises:
        ConfigError: there is no such field, it is a record, or its value is not valid; the text names the choices.
    """
    tree = json.loads(json.dumps(asdict(config)))
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes FIELD=VALUE, not {setting!r}")
        if (record := name.partition(".")[0]) in RECORDS:
            raise ConfigError(f"{name} cannot be set: {RECORDS[record]}")
        _put(tree, TrainingConfig, name.split("."), name, text)
    return from_tree(tree)


def shorter_warm_ups(config: TrainingConfig, settings: Sequence[str]) -> list[str]:
    """Return settings to put before others whose `steps` leave no room for a warm-up: it takes a tenth of them."""
    given = [text for name, _, text in (setting.partition("=") for setting in settings) if name == "steps"]
    if not given or not given[-1].isdecimal():
        return []
    steps = int(given[-1])
    return [
        f"{name}.warmup_steps={steps // 10}" for name, one in config.optimisers.items() if one.warmup_steps >= steps
    ]


def read_config(path: Path) -> TrainingConfig:
    """Read the `config.json` of a run. Fields that it lacks, because an older version wrote it, have their defaults.

    Raises:
        ConfigError: it is not a config, has an unknown field, or a value that is not valid.
        OSError: it cannot be read.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not the config.json of a run ({error})") from error
    try:
        return from_tree(tree)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def from_tree(tree: object) -> TrainingConfig:
    """Make a config from its JSON.

    Raises:
        ConfigError: see `read_config`.
    """
    config = _made(TrainingConfig, _of_today(tree), "")
    assert isinstance(config, TrainingConfig)
    return config


def differences(config: TrainingConfig, other: TrainingConfig) -> list[str]:
    """Say which fields keep a run of `other` from being continued as `config`, with both values."""
    ours, theirs = _flat(asdict(config)), _flat(asdict(other))
    names = [name for name in ours | theirs if name.partition(".")[0] not in CHANGEABLE]
    return [
        f"{name} is {theirs.get(name)} there and {ours.get(name)} here"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def _of_today(tree: object) -> object:
    """Convert losses of earlier versions, which have names of layers, and a feature scale that may be null."""
    losses = tree.get("losses") if isinstance(tree, Mapping) else None
    if not isinstance(tree, Mapping) or not isinstance(losses, Mapping):
        return tree
    layers = losses.get("perceptual_layers")
    if not isinstance(layers, list):
        return tree
    weights = dict.fromkeys(VGG_LAYERS, 0.0) | {str(name): 1.0 for name in layers}
    # a number was that of the loaded weights, whatever the recipe said
    scale = "relative" if losses.get("feature_scale", 1.0) is None else "auto"
    return {**tree, "losses": {**losses, "perceptual_layers": weights, "feature_scale": scale}}


def _flat(tree: Mapping[str, Any], name: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for field, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, _joined(name, field))
        else:
            flat[_joined(name, field)] = value
    return flat


def _put(tree: Any, kind: Any, path: Sequence[str], name: str, text: str) -> None:
    """Set the value at `path` of a tree that will become a `kind`."""
    first, *others = path
    hints = _hints(kind)
    if first not in hints:
        raise _unknown(name.removesuffix("".join(f".{other}" for other in others)), first, hints)
    if not others:
        tree[first] = _parsed(hints[first], text, name)
        return
    inner = next((one for one in _choices(hints[first]) if is_dataclass(one)), None)
    here = name.removesuffix("".join(f".{other}" for other in others))
    if inner is None:
        raise ConfigError(f"{name}: {here} is one value, not a group of fields; give {here}=VALUE")
    group = tree.setdefault(first, _default(kind, first))
    if group is None:
        first_of_all = " ".join([f"{here}={DEFAULT}", *(f"{field}=VALUE" for field, _ in _required(inner, here))])
        raise ConfigError(f"{name}: this run has no {here}; give {first_of_all} first, or {here}={{...}} as JSON")
    if not isinstance(group, Mapping):
        raise _not_a_group(here, group, inner)
    _put(group, inner, others, name, text)


def _parsed(kind: Any, text: str, name: str) -> object:
    """Parse the text of a field to a JSON value, which `_made` checks."""
    choices = _choices(kind)
    if types.NoneType in choices and text.lower() == "none":
        return None
    if text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{name} is {text!r}, which is not JSON ({error})") from error
    if text == DEFAULT and any(is_dataclass(one) for one in choices):
        return {}
    if any(get_origin(one) is tuple for one in choices):
        return [_scalar(part.strip()) for part in text.split(",") if part.strip()]
    return text if str in choices else _scalar(text)


def _scalar(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _made(kind: Any, value: object, name: str) -> object:
    """Make a value of a type from JSON; `name` is its dotted path, empty for the whole config."""
    if is_dataclass(kind) and isinstance(kind, type):
        return _made_dataclass(kind, value, name)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _made_of_one(_choices(kind), value, name)
    if origin is Literal:
        if value in get_args(kind):
            return value
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(map(str, get_args(kind)))}")
    if origin is tuple:
        return _made_tuple(get_args(kind), value, name)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise ConfigError(f"{name} is {value!r}; it must be {_described(kind)}")


def _made_dataclass(kind: type, value: object, name: str) -> object:
    hints = _hints(kind)
    if not isinstance(value, Mapping):
        raise _not_a_group(name or "the config", value, kind)
    if unknown := next((one for one in value if one not in hints), None):
        raise _unknown(_joined(name, unknown), unknown, hints)
    for field in _without_default(kind):
        if field not in value:
            missing, needed = next(_required(hints[field], _joined(name, field)), (_joined(name, field), hints[field]))
            raise ConfigError(f"{missing} is missing; it must be {_described(needed)}")
    given = {
        one: _made(hints[one], _completed(inner, _default(kind, one)), _joined(name, one))
        for one, inner in value.items()
    }
    try:
        return kind(**given)
    except ValueError as error:
        text = str(error)
        raise ConfigError(
            _joined(name, text) if text.split(" ")[0] in hints or not name else f"{name}: {text}"
        ) from error


def _made_of_one(choices: Sequence[Any], value: object, name: str) -> object:
    if value is None and types.NoneType in choices:
        return None
    errors = []
    for choice in choices:
        if choice is types.NoneType:
            continue
        try:
            return _made(choice, value, name)
        except ConfigError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    raise ConfigError(f"{name} is {value!r}; it must be {' or '.join(map(_described, choices))}")


def _made_tuple(kinds: Sequence[Any], value: object, name: str) -> tuple[object, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(values)
    if len(kinds) != len(values):
        raise ConfigError(f"{name} has {len(values)} values; it takes {len(kinds)}, with commas between them")
    return tuple(_made(kind, one, name) for kind, one in zip(kinds, values, strict=True))


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _without_default(kind: type) -> list[str]:
    return [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]


def _required(kind: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that have no default, each with its dotted path and its type."""
    if not is_dataclass(kind) or not isinstance(kind, type):
        yield name, kind
        return
    hints = _hints(kind)
    for field in _without_default(kind):
        yield from _required(hints[field], _joined(name, field))


def _default(kind: type, name: str) -> object:
    """Return the JSON of a field's default; empty for a group without one."""
    (field,) = (one for one in fields(kind) if one.name == name)
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if is_dataclass(default):
        return asdict(default)  # type: ignore[arg-type]  # it is no class
    return {} if default is MISSING else default


def _completed(value: object, default: object) -> object:
    """Give a group the fields that it lacks: a default such as `UploadConfig.blur` is not always its class's."""
    return {**default, **value} if isinstance(default, Mapping) and isinstance(value, Mapping) else value


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _joined(name: str, field: str) -> str:
    return f"{name}.{field}" if name else field


def _unknown(name: str, field: str, known: Mapping[str, Any]) -> ConfigError:
    near = get_close_matches(field, known, n=1)
    hint = f"do you mean {near[0]}? There" if near else "there"
    return ConfigError(f"{name} is not a field; {hint} are {', '.join(known)}")


def _not_a_group(name: str, value: object, kind: Any) -> ConfigError:
    return ConfigError(f"{name} is {value!r}; it must be {_described(kind)}")


def _described(kind: Any) -> str:
    if kind is types.NoneType:
        return "none"
    if is_dataclass(kind):
        return f"a group of the fields {', '.join(_hints(kind))}"  # type: ignore[arg-type]  # it is a class here
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(map(_described, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a list"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(kind, str(kind))

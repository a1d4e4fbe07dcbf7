"""Frozen dataclasses to JSON or TOML values and back: the one reader of everything typed on disk.

Reading is strict: an unknown or missing key, a wrong type, a number that is not finite or outside
its range is a problem with its place, and all of them are found at once.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import numpy as np

from mads.errors import DataError, UsageError, did_you_mean
from mads.units import parse_bytes, shorten

T = TypeVar("T")
_BAD: Any = object()  # stands for a value that is reported as a problem
_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


class Check(Protocol):
    """What ``Annotated`` may say of a value."""

    def flaw(self, value: Any) -> str:
        """Return what is wrong with a value, or an empty text."""


@dataclass(frozen=True, slots=True)
class Within:
    """The range of a number, both ends included."""

    low: float
    high: float

    def flaw(self, value: float) -> str:
        """Return what is wrong with a value, or an empty text."""
        if self.low <= value <= self.high:
            return ""
        return f"found {_short(value)}, expected {self.low:g} to {self.high:g}"


Count = Annotated[int, Within(0, 2**62)]
"""Of rows, tokens or bytes."""


@dataclass(frozen=True, slots=True)
class Size:
    """A size in bytes, written as 4GB, say."""

    def flaw(self, value: str) -> str:
        """Return what is wrong with a value, or an empty text."""
        try:
            parse_bytes(value)
        except UsageError as error:
            return str(error)
        return ""


@dataclass(frozen=True, slots=True)
class FileName:
    """The name of a file or folder in a known place; it leads nowhere else."""

    def flaw(self, value: str) -> str:
        """Return what is wrong with a value, or an empty text."""
        if value in ("", ".", "..") or set(value) & set("/\\\0"):
            return f"found {_short(value)}, expected a plain name"
        return ""


@dataclass(frozen=True, slots=True)
class Choice:
    """A section whose type follows from one of its keys."""

    key: str
    default: str
    types: Mapping[str, type[Any]]


Choices = Mapping[type[Any], Choice]


def to_json(value: Any) -> Any:
    """Return a value as plain dictionaries, lists, texts and numbers.

    Arrays become lists; a dataclass becomes a dictionary of its fields.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value


def from_json(cls: type[T], value: object, path: Path, what: str, remedy: str) -> T:
    """Return a dataclass from JSON values; raises DataError, with the first problem's place.

    ``what`` says what the file should be, ``remedy`` what to do when it is not.
    """
    problems: list[str] = []
    found = convert(cls, value, "", problems)
    if problems:
        raise DataError(f"{path} is not {what}: {problems[0].removeprefix(': ')}. {remedy}")
    assert isinstance(found, cls)
    return found


def convert(
    hint: Any, value: Any, at: str, problems: list[str], choices: Choices | None = None
) -> Any:
    """Return a value as its type hint wants it; problems are appended, each with its place."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = convert(args[0], value, at, problems, choices)
        flaw = "" if found is _BAD else args[1].flaw(found)
        if flaw:
            problems.append(f"{at}: {flaw}")
        return _BAD if flaw else found
    if origin is types.UnionType:
        return _convert_optional(args, value, at, problems, choices)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast("type[Any]", hint), value, at, problems, choices)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        found = {
            key: convert(args[1], item, f"{at}.{key}" if at else key, problems, choices)
            for key, item in value.items()
        }
        return {key: item for key, item in found.items() if item is not _BAD}
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        if origin is tuple and args[-1] is not Ellipsis and len(value) != len(args):
            problems.append(f"{at}: found {_short(value)}, expected a list of {len(args)}")
            return _BAD
        items = tuple(
            convert(args[0], v, f"{at}[{i}]", problems, choices) for i, v in enumerate(value)
        )
        return _BAD if any(item is _BAD for item in items) else items
    if origin is np.ndarray:
        return _convert_array(args[1], value, at, problems)
    return _convert_plain(hint, origin, args, value, at, problems)


def build(
    cls: type[Any],
    table: Mapping[str, Any],
    at: str,
    problems: list[str],
    choices: Choices | None = None,
) -> Any:
    """Build a dataclass from a table; a key with a problem keeps its default, if it has one."""
    kind, place = "", f"{at}." if at else ""
    if choices and cls in choices:
        choice = choices[cls]
        name = table.get(choice.key, choice.default)
        if not isinstance(name, str) or name not in choice.types:
            near = did_you_mean(str(name), choice.types)
            problems.append(f"{place}{choice.key}: {_short(name)} is not known; {near}")
            return choice.types[choice.default](**{choice.key: choice.default})
        cls, kind = choice.types[name], f" under {choice.key} = {json.dumps(name)}"
        table = {**table, choice.key: name}
    hints = _hints(typing.cast("typing.Hashable", cls))
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in hints:
            problems.append(f"{place}{key}: unknown key{kind}; {did_you_mean(str(key), hints)}")
            continue
        values[key] = convert(hints[key], value, f"{place}{key}", problems, choices)
    values = {key: value for key, value in values.items() if value is not _BAD}
    missing = [f.name for f in dataclasses.fields(cls) if f.name not in values and _needed(f)]
    problems += [f"{place}{name}: missing" for name in missing if name not in table]
    return _BAD if missing else cls(**values)


@lru_cache(maxsize=256)
def _hints(cls: typing.Hashable) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _needed(field: dataclasses.Field[Any]) -> bool:
    nothing = dataclasses.MISSING
    return field.default is nothing and field.default_factory is nothing


def _convert_optional(
    args: tuple[Any, ...], value: Any, at: str, problems: list[str], choices: Choices | None
) -> Any:
    """Only ``X | None`` is used."""
    if value is None:
        return None
    (hint,) = (arg for arg in args if arg is not types.NoneType)
    return convert(hint, value, at, problems, choices)


def _convert_array(dtype: Any, value: Any, at: str, problems: list[str]) -> Any:
    """Return a list of numbers as an array of one dimension."""
    (wanted,) = typing.get_args(dtype)
    kinds = (int,) if issubclass(wanted, np.integer) else (int, float)
    if not isinstance(value, list) or not all(type(item) in kinds for item in value):
        problems.append(f"{at}: expected a list of {'whole ' if kinds == (int,) else ''}numbers")
        return _BAD
    try:
        found = np.array(value, wanted)
    except OverflowError:
        problems.append(f"{at}: a number is too large")
        return _BAD
    if not np.isfinite(found).all():
        problems.append(f"{at}: a number is not finite")
        return _BAD
    return found


def _convert_plain(
    hint: Any, origin: Any, args: tuple[Any, ...], value: Any, at: str, problems: list[str]
) -> Any:
    if origin is Literal:
        if value in args:
            return value
        near = did_you_mean(str(value), map(str, args))
        problems.append(f"{at}: {_short(value)} is not known; {near}")
        return _BAD
    if isinstance(hint, type) and issubclass(hint, StrEnum) and isinstance(value, str):
        if value in set(hint):
            return hint(value)
        near = did_you_mean(value, map(str, hint))
        problems.append(f"{at}: {_short(value)} is not known; {near}")
        return _BAD
    if hint is float and type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    if hint in (int, str, bool) and type(value) is hint:
        return value
    problems.append(f"{at}: found {_short(value)}, expected {_describe(hint)}")
    return _BAD


def _short(value: object) -> str:
    """Return a value as a message shows it."""
    return "a section" if isinstance(value, Mapping) else shorten(value)


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _describe(args[0])
    if dataclasses.is_dataclass(hint) or origin in (dict, Mapping):
        return "a section"
    if origin in (tuple, Sequence):
        return f"a list of {_describe(args[0])}"
    return _NAMES.get(hint, str(hint))

"""Every key of a recipe, from the sections themselves: for docs, editors and `mads recipe`.

What a key means is the comment beside or above it in the section's source, so there is one place to
keep. A section whose kind is chosen by a key (an agent's back-end, the console's rule, the rewards'
estimator) has the keys that all kinds share, and one more section for each kind.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mads.codec import Size, Within
from mads.config import Recipe
from mads.recipe import CHOICES, SHIPPED, to_table, to_toml

WIDTH = 96
_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_JSON = {int: "integer", float: "number", str: "string", bool: "boolean"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section: its type in words, its default as TOML (empty: none), what it means."""

    name: str
    type: str
    default: str
    range: str
    meaning: str
    schema: Mapping[str, Any]  # as a JSON schema


@dataclass(frozen=True, slots=True)
class Section:
    """One section of a recipe, as it stands in the file: ``agents.NAME``, say."""

    name: str
    about: str
    kind: str  # of the key that chooses it, e.g. backend = "column"; empty where nothing does
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """Return all sections of a recipe, the keys at its top first."""
    return list(_sections(Recipe, ""))


def _sections(cls: type[Any], place: str) -> Iterator[Section]:
    keys, below, known = [], [], meanings(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        inner = f"{place}.{field.name}" if place else field.name
        section = _section_of(kind)
        if section is None:
            keys.append(_key(field, kind, known))
        else:
            below.append((section, f"{inner}.NAME" if typing.get_origin(kind) is dict else inner))
    choice = CHOICES.get(cls)
    yield Section(place, _about(cls), "", tuple(keys))
    if choice is not None:
        for name, own in choice.types.items():
            known = meanings(own)
            shared = {field.name for field in dataclasses.fields(cls)}
            hints = typing.get_type_hints(own, include_extras=True)
            more = [f for f in dataclasses.fields(own) if f.name not in shared]
            found = tuple(_key(field, hints[field.name], known) for field in more)
            yield Section(place, _about(own), f'{choice.key} = "{name}"', found)
    for section, inner in below:
        yield from _sections(section, inner)


def _section_of(kind: Any) -> type[Any] | None:
    """Return the section that a key holds, one or many by name; None for a value."""
    if typing.get_origin(kind) is dict:
        kind = typing.get_args(kind)[1]
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def _key(field: dataclasses.Field[Any], kind: Any, known: Mapping[str, str]) -> Key:
    default: Any = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    choice = next((c for c in CHOICES.values() if c.key == field.name), None)
    if default is dataclasses.MISSING:
        default = choice.default if choice is not None else ""
    shown = to_toml({"x": default}).removeprefix("x = ").strip()
    if isinstance(default, Mapping):
        shown = "{}"
    schema = _schema(kind)
    if choice is not None:
        schema = {"enum": sorted(choice.types)}
    words = ", ".join(choice.types) if choice is not None else _words(kind)
    meaning = known.get(field.name, "")
    return Key(field.name, words, shown, _range(kind), meaning, schema)


def _about(cls: type[Any]) -> str:
    return " ".join((inspect.getdoc(cls) or "").replace("``", "`").split())


def meanings(cls: type[Any]) -> Mapping[str, str]:
    """Return what the comments of a section's source say of its keys, its base's included.

    >>> meanings(TaskConfig)["split"]
    'of a Hugging Face data set'
    """
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if dataclasses.is_dataclass(owner):
            found |= _comments(owner)
    return found


def _comments(cls: type[Any]) -> dict[str, str]:
    text = inspect.cleandoc("\n" + inspect.getsource(cls))
    lines = text.splitlines()
    tree = ast.parse(text).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node in tree.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above: list[str] = []
        at = node.lineno - 2
        while at >= 0 and lines[at].strip().startswith("#"):
            above.insert(0, lines[at].strip().removeprefix("#").strip())
            at -= 1
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        # Columns count bytes of UTF-8.
        rest = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
        beside = [rest.removeprefix("#").strip()] if rest.startswith("#") else []
        found[node.target.id] = " ".join(above + beside).replace("``", "`")
    return found


def _bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without what ``Annotated`` says of it, and that."""
    if typing.get_origin(kind) is Annotated:
        return typing.get_args(kind)[0], tuple(kind.__metadata__)
    return kind, ()


def _words(kind: Any) -> str:
    kind, extra = _bare(kind)
    if any(isinstance(one, Size) for one in extra):
        return "size, e.g. 4GB"
    if kind in _NAMES:
        return _NAMES[kind]
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is Literal:
        return ", ".join(f'"{one}"' for one in arguments)
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is dict:
        return f"table of {_words(arguments[1])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(one) for one in arguments if one is not type(None))
    return str(getattr(kind, "__name__", kind))


def _range(kind: Any) -> str:
    kind, extra = _bare(kind)
    for one in extra:
        if isinstance(one, Within):
            return f"{_number(one.low)} to {_number(one.high)}"
    arguments = [one for one in typing.get_args(kind) if typing.get_origin(one) is not None]
    if typing.get_origin(kind) in (tuple, dict) and arguments:
        return _range(arguments[-1])
    return ""


def _number(value: float) -> str:
    """Return a bound; a power of two and its neighbour below as such.

    >>> _number(2**31 - 1), _number(0.5)
    ('2^31 - 1', '0.5')
    """
    if isinstance(value, int) and value > 10_000:
        for less in (0, 1):
            power = (value + less).bit_length() - 1
            if 2**power == value + less:
                return f"2^{power}" + (" - 1" if less else "")
    return f"{value:g}"


def _schema(kind: Any) -> dict[str, Any]:
    """Return a value's JSON schema."""
    kind, extra = _bare(kind)
    limits: dict[str, Any] = {}
    for one in extra:
        if isinstance(one, Within):
            limits = {"minimum": one.low, "maximum": one.high}
    if kind in _JSON:
        return {"type": _JSON[kind], **limits}
    arguments, origin = typing.get_args(kind), typing.get_origin(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    return {}


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, which editors use to check and complete one.

    Keys of all kinds of a section are allowed; which go together `mads` checks itself.
    """
    root: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of mads",
        **_empty("A recipe of mads."),
    }
    for section in sections():
        at = root
        for part in section.name.split(".") if section.name else ():
            if part == "NAME":
                if not isinstance(at.get("additionalProperties"), dict):
                    at["additionalProperties"] = _empty("")
                at = at["additionalProperties"]
            else:
                at = at["properties"].setdefault(part, _empty(""))
        at["description"] = at.get("description") or section.about
        for key in section.keys:
            about = key.meaning if not section.kind else f"{section.kind}: {key.meaning}"
            at["properties"].setdefault(key.name, {**key.schema, "description": about})
    shares = {"type": "object", "additionalProperties": {"type": "number"}}
    root["properties"]["mixture"]["additionalProperties"] = {"anyOf": [shares, {"type": "string"}]}
    return root


def _empty(about: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": about,
        "properties": {},
        "additionalProperties": False,
    }


def markdown() -> str:
    """Return docs/recipe.md."""
    lines = [
        "# Every key of a recipe",
        "",
        "Made by `make docs` from the sections' source; do not edit. `mads recipe` lists the",
        "shipped recipes, `mads recipe NAME` prints one with all its keys, and",
        "`mads recipe --schema` a JSON schema.",
    ]
    for section in sections():
        if not section.keys and section.kind == "" and section.name == "":
            continue
        title = f"[{section.name}]" if section.name else "At the top"
        lines += ["", f"## {title}" if not section.kind else f"### `{section.kind}`", ""]
        lines += [section.about]
        if not section.keys:
            continue
        lines += ["", "| key | type | default | range | meaning |", "|---|---|---|---|---|"]
        for key in section.keys:
            cells = (f"`{key.name}`", key.type, f"`{key.default}`", key.range, key.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def about_shipped(name: str) -> str:
    """Return the first sentence of what a shipped recipe says of itself."""
    lines = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    words = [line.removeprefix("#").strip() for line in itertools.takewhile(_is_comment, lines)]
    return " ".join(words).partition(". ")[0].removesuffix(".") + "."


def _is_comment(line: str) -> bool:
    return line.startswith("#")


def commented(recipe: Recipe) -> str:
    """Return a recipe as complete TOML, each key with what it means above it."""
    return "".join(_commented(to_table(recipe), recipe, ""))


def _commented(table: Mapping[str, Any], section: Any, place: str) -> Iterator[str]:
    known = meanings(type(section)) if dataclasses.is_dataclass(section) else {}
    inner = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            inner[name] = value
            continue
        for line in _wrapped(known.get(name, "")):
            yield f"# {line}\n"
        yield to_toml({name: value})
    for name, value in inner.items():
        key = to_toml({name: 0}).partition(" = ")[0]
        at = f"{place}.{key}" if place else key
        below = section[name] if isinstance(section, Mapping) else getattr(section, name)
        yield f"\n[{at}]\n"
        if dataclasses.is_dataclass(below) and not isinstance(below, type):
            for line in _wrapped(_about(type(below))):
                yield f"## {line}\n"
        elif not isinstance(below, Mapping) or name in known:
            for line in _wrapped(known.get(name, "")):
                yield f"# {line}\n"
        yield from _commented(value, below, at)


def _wrapped(text: str) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines

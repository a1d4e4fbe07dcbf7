"""The ``python`` back-end: a class of the user's labels or scores texts.

The class is given as ``module:Class`` or ``path/to/file.py:Class``. It is made once in each
process, with the section's ``options`` as keyword arguments, and needs one of two methods:

    def label(self, texts: list[str]) -> Sequence[str | None]      names of categories
    def score(self, texts: list[str]) -> Sequence[float | None]    numbers, which bins cut

one answer for each text, which depends on that text alone; None where there is none, which goes to
``other``. A class that also wants fields of the corpus names them in an attribute ``fields``, a
tuple of dotted paths, and gets a dictionary as second argument: path -> one value for each text.
The categories of ``label`` stand in the class's attribute ``categories`` or in the recipe.

The source of the module (of a package all of it) and the content of ``files`` are part of the
fingerprint; whatever else the answers depend on is not.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import numpy as np

from mads.agents.agent import Backend, FixedBins, QuantileBins, bin_names, fingerprint
from mads.agents.column import LARGEST_SCORE, bin_problems, refuse
from mads.codec import Within
from mads.config import AgentConfig
from mads.errors import DataError, UsageError, did_you_mean
from mads.files import file_sha256
from mads.types import Agent, DocumentBatch, Labels, Scores
from mads.units import shorten


@dataclass(frozen=True, slots=True)
class PythonConfig(AgentConfig):
    """``python``: a class of the user's."""

    code: str = ""  # module:Class, or path/to/file.py:Class
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # its keyword arguments
    files: tuple[str, ...] = ()  # what it reads: their content is part of the fingerprint
    categories: tuple[str, ...] = ()  # of a class that labels; default: its own. Else of bins
    other: str = ""  # category where the answer is None; without it None is an error
    edges: tuple[float, ...] = ()  # inner bin edges of scores, one fewer than categories
    quantiles: Annotated[int, Within(0, 100)] = 0  # or bins of as many documents each


def open_python(name: str, config: PythonConfig) -> Agent | QuantileBins:
    """Open the agent of a section; the class is imported, and made when the first text comes.

    Raises UsageError for code that cannot be imported or a class that does not fit the section.
    """
    source = _Source.find(name, config.code)
    own = source.load()
    labels = hasattr(own, "label")
    if labels == hasattr(own, "score"):
        raise UsageError(
            f"agents.{name}.code: the class {config.code} needs a method `label` or a method "
            f"`score`, found {'both' if labels else 'neither'}."
        )
    user = UserCode(name, config, source, own)
    user.check_files()
    if labels:
        categories = config.categories or tuple(getattr(own, "categories", ()))
        refuse(name, _label_problems(config, categories))
        return PythonAgent(user, categories, config.other)
    names = bin_names(config.categories, config.quantiles)
    if not names:
        raise UsageError(f"agents.{name}: a class that scores needs edges or quantiles.")
    refuse(name, bin_problems(config, names))
    scorer = PythonScorer(user)
    if config.quantiles:
        return QuantileBins(name, scorer, names, config.other or None)
    return FixedBins(
        name, scorer, names, config.edges, names.index(config.other) if config.other else 0
    )


BACKEND = Backend(PythonConfig, open_python)


def _label_problems(config: PythonConfig, categories: tuple[str, ...]) -> list[str]:
    if config.edges or config.quantiles:
        return ["code: its class labels; edges and quantiles are for one that scores"]
    if not categories:
        return ["categories: name them here, or in the class's attribute `categories`"]
    return bin_problems(dataclasses.replace(config, categories=categories), categories)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a class is: its module's files, and what imports it."""

    agent: str
    module: str  # a name, or a path
    cls: str
    files: tuple[Path, ...]
    is_path: bool

    @staticmethod
    def find(agent: str, code: str) -> _Source:
        """Raise UsageError for what names no class in a module that there is."""
        module, _, cls = code.rpartition(":")
        if not module or not cls.isidentifier():
            raise UsageError(
                f"agents.{agent}.code: found {code!r}, expected module:Class or "
                "path/to/file.py:Class."
            )
        if module.endswith(".py"):
            if not Path(module).is_file():
                raise UsageError(f"agents.{agent}.code: {module!r} does not exist.")
            return _Source(agent, module, cls, (Path(module).resolve(),), True)
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise UsageError(
                f"agents.{agent}.code: there is no module {module!r}. Install it, set PYTHONPATH, "
                "or give the path of a file."
            )
        origin = Path(spec.origin)
        is_package = bool(spec.submodule_search_locations)
        files = sorted(origin.parent.rglob("*.py")) if is_package else [origin]
        return _Source(agent, module, cls, tuple(files), False)

    def load(self) -> Any:
        """Return the class; raises UsageError where it cannot be imported or is not there."""
        try:
            module = _import_file(self.files[0]) if self.is_path else _import(self.module)
        except Exception as error:
            raise UsageError(self.told(error, "cannot be imported")) from error
        own = getattr(module, self.cls, None)
        if not isinstance(own, type):
            known = [name for name, value in vars(module).items() if isinstance(value, type)]
            raise UsageError(
                f"agents.{self.agent}.code: {self.module} has no class {self.cls!r}; "
                f"{did_you_mean(self.cls, known)}"
            )
        return own

    def told(self, error: BaseException, what: str) -> str:
        """Return an error of the user's code as a message that names their file and line."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = {str(file) for file in self.files}
        own = [frame for frame in frames if str(Path(frame.filename).resolve()) in ours]
        place = f"{self.module}"
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}, line {error.lineno}"
        elif own:
            place = f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}"
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        return f"agent {self.agent!r}: {self.module}:{self.cls} {what}. {place}: {reason}"


def _import(module: str) -> ModuleType:
    return importlib.import_module(module)


def _import_file(path: Path) -> ModuleType:
    name = f"mads_agent_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class UserCode:
    """The user's object, and its answers as far as they have the right shape."""

    def __init__(self, name: str, config: PythonConfig, source: _Source, own: Any) -> None:
        self.name = name
        self.fields = tuple(getattr(own, "fields", ()))
        self.takes_none = bool(config.other)
        self._config, self._source, self._own = config, source, own

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any answer, as far as it can be known."""
        config = self._config
        paths = [*self._source.files, *map(Path, config.files)]
        seals = [(path.name, file_sha256(path)) for path in paths]
        return fingerprint("python", self._source.cls, sorted(config.options.items()), seals)

    def check_files(self) -> None:
        """Raise UsageError for one of the section's files that is not there."""
        for path in self._config.files:
            if not Path(path).is_file():
                raise UsageError(f"agents.{self.name}.files: {path!r} does not exist.")

    @cached_property
    def _object(self) -> Any:
        try:
            return self._own(**self._config.options)
        except Exception as error:
            raise DataError(self._source.told(error, "cannot be made")) from error

    def ask(self, method: str, batch: DocumentBatch) -> list[Any]:
        """Return one answer for each of N documents; raises DataError for another number."""
        if not len(batch):
            return []
        call: Callable[..., Sequence[Any]] = getattr(self._object, method)
        fields = ({name: batch.fields[name] for name in self.fields},) if self.fields else ()
        try:
            answers = list(call(list(batch.texts), *fields))
        except Exception as error:
            raise DataError(self._source.told(error, f"failed in `{method}`")) from error
        if len(answers) != len(batch):
            raise self.wrong(
                f"`{method}` gave {len(answers)} answers for {len(batch)} texts. It must give one "
                "for each."
            )
        return answers

    def wrong(self, what: str) -> DataError:
        """Return an error that tells what is wrong with an answer."""
        return DataError(f"agent {self.name!r}: {self._config.code}: {what}")


class PythonAgent:
    """Labels with the user's ``label``; the score is 1."""

    def __init__(self, user: UserCode, categories: tuple[str, ...], other: str) -> None:
        self.name, self.categories, self.fields = user.name, categories, user.fields
        self._user, self._index = user, {name: i for i, name in enumerate(categories)}
        self._other = other

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any label, as far as it can be known."""
        return fingerprint(self._user.fingerprint, self.categories, self._other)

    def label(self, batch: DocumentBatch) -> Labels:
        """Label N documents; raises DataError for an answer that is no category."""
        category_N = np.empty(len(batch), np.uint16)
        for i, answer in enumerate(self._user.ask("label", batch)):
            name = self._other if answer is None else answer
            found = self._index.get(name) if isinstance(name, str) else None
            if found is None:
                near = did_you_mean(str(answer), self.categories)
                more = "set `other`" if answer is None else near
                raise self._user.wrong(
                    f"`label` gave {shorten(answer)} for text {i} of the batch, expected one of "
                    f"the categories {', '.join(self.categories)}; {more}"
                )
            category_N[i] = found
        return Labels(category_N, np.ones(len(batch), np.float32))


class PythonScorer:
    """Scores with the user's ``score``; None is unknown where there is a category for it."""

    def __init__(self, user: UserCode) -> None:
        self.fields = user.fields
        self._user = user

    @cached_property
    def fingerprint(self) -> str:
        """Return what changes with any score, as far as it can be known."""
        return self._user.fingerprint

    def score(self, batch: DocumentBatch) -> Scores:
        """Score N documents; raises DataError for an answer that is no finite number."""
        number_N, known_N = np.zeros(len(batch)), np.ones(len(batch), bool)
        for i, answer in enumerate(self._user.ask("score", batch)):
            if answer is None and self._user.takes_none:
                known_N[i] = False
                continue
            number_N[i] = number = _number(answer)
            if not abs(number) <= LARGEST_SCORE:
                more = " Set `other` for texts without a score." if answer is None else ""
                raise self._user.wrong(
                    f"`score` gave {shorten(answer)} for text {i} of the batch, expected a finite "
                    f"number.{more}"
                )
        return Scores(number_N.astype(np.float32), known_N)


def _number(answer: object) -> float:
    """Return an answer as a number, NaN for what is none."""
    if isinstance(answer, Mapping | str | bytes) or answer is None:
        return math.nan
    try:
        return float(answer)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan

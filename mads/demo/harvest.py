"""The embedded corpus: text that is already on every machine where mads is installed.

    stdlib + the distributions that mads depends on
      -> source files   -> code, docstring
      -> documentation  -> description
      -> licences       -> licence
      -> hold out some docstrings, with their whole files -> reference.jsonl
      -> what is left   -> corpus/<domain>.jsonl

Files are only read: nothing is downloaded, and no package is imported. Which files are taken
depends on the seed and on hashes of their names, so one environment always gives the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import re
import sys
import sysconfig
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_string
from importlib import metadata
from itertools import accumulate
from pathlib import Path

from mads.errors import DataError
from mads.files import write_text
from mads.types import ReferenceExample

DOMAINS = ("code", "docstring", "description", "licence")
DEPENDENCIES = (
    *("duckdb", "fasttext-community", "numpy", "pyarrow", "rich"),
    *("safetensors", "tokenizers", "torch", "transformers", "typer"),
)
"""Where the walk over requirements begins when mads itself is not an installed distribution."""

TOPICS = "pydoc_data/topics.py"

MIN_DOCS = 20
NUM_REFERENCE = 200
HELD_OUT_SHARE = 0.2  # at most, of the files with docstrings
CODE_BYTES = (500, 60_000)
MIN_CHARS = 200  # of a docstring, or of a part
PART_CHARS = {"description": (1_000, 4_000), "licence": (800, 2_500)}
CLOZE_CHARS = (300, 1_500)  # a reference context must fit a small model's window
OVERLAP_WORDS = 8  # words before the gap that, with the continuation, identify a passage
MAX_COPIES = 3  # a passage in more documents than this is boilerplate, not a reference item

SKIPPED_FOLDERS = {
    *("site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3"),
    *("test", "tests", "_vendor", "vendor"),
}
SKIPPED_FILES = re.compile(r"_sysconfigdata|CMakeLists|requirements.*\.txt")
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
EXTRA_MARKER = re.compile(r";.*\bextra\s*==")
GAP = re.compile(r"(?<=[a-z,]) (?=[A-Za-z])")
CLOZE_WORDS = re.compile(r"(?:\s+\S+){6,12}")
HEADING = re.compile(r"#{1,6} |.+\n[=\-~^]{3,}\s*$")
WORD = re.compile(rb"[a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Document:
    """One document; ``file`` is where it is from, ``source`` adds the object or the part."""

    domain: str
    file: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class HarvestSummary:
    """What was written: documents and UTF-8 bytes of text per domain, and reference items."""

    num_docs: Mapping[str, int]
    num_bytes: Mapping[str, int]
    num_reference: int


@dataclass(frozen=True, slots=True)
class _Package:
    """The files of one distribution, or of the standard library, by relative POSIX path."""

    name: str
    files: Mapping[str, Path]


@dataclass(slots=True)
class _Collector:
    """The documents of one domain, without repetitions, up to a number of bytes."""

    domain: str
    max_bytes: int
    forbidden: set[str]
    documents: list[Document] = field(default_factory=list)
    num_bytes: int = 0
    seen: set[bytes] = field(default_factory=set)
    full: bool = False

    def add(self, file: str, source: str, text: str) -> None:
        """Take the text unless it is a copy, names the machine's folders or does not fit."""
        digest = hashlib.sha256(_words(text)).digest()
        if self.full or digest in self.seen or any(path in text for path in self.forbidden):
            return
        try:
            num_bytes = len(text.encode())
        except UnicodeEncodeError:  # a docstring may spell a lone surrogate
            return
        self.full = self.num_bytes + num_bytes > self.max_bytes
        if not self.full:
            self.seen.add(digest)
            self.num_bytes += num_bytes
            self.documents.append(Document(self.domain, file, source, text))


def harvest(out: Path, seed: int = 0, max_bytes_per_domain: int = 6_000_000) -> HarvestSummary:
    """Write ``corpus/<domain>.jsonl`` and ``reference.jsonl`` under ``out``.

    ``max_bytes_per_domain`` counts the UTF-8 bytes of the texts before reference items are held
    out. Raises DataError when a domain has fewer than 20 documents.
    """
    packages = [*_distributions(), _standard_library()]
    paths = sysconfig.get_paths()
    # Generated files may spell out where this Python is installed.
    folders = {paths["stdlib"], paths["purelib"], sys.prefix, sys.base_prefix}
    folders -= {"/usr", "/usr/local"}
    collectors = {name: _Collector(name, max_bytes_per_domain, folders) for name in DOMAINS}
    _collect_sources(packages, seed, collectors["code"], collectors["docstring"])
    _collect_texts(packages, seed, collectors["description"], collectors["licence"])
    documents = [document for name in DOMAINS for document in collectors[name].documents]
    reference, kept = hold_out(documents, seed)
    corpus = {name: [d for d in kept if d.domain == name] for name in DOMAINS}
    counts = {name: len(members) for name, members in corpus.items()}
    _check({**counts, "reference": len(reference)}, packages, max_bytes_per_domain)

    for name, members in corpus.items():
        members.sort(key=lambda document: document.source)
        rows = [{"text": d.text, "meta": {"domain": d.domain, "source": d.source}} for d in members]
        _write_jsonl(out / "corpus" / f"{name}.jsonl", rows)
    _write_jsonl(
        out / "reference.jsonl",
        [{"context": item.context, "continuation": item.continuation} for item in reference],
    )
    return HarvestSummary(
        num_docs=counts,
        num_bytes={name: sum(len(d.text.encode()) for d in corpus[name]) for name in DOMAINS},
        num_reference=len(reference),
    )


def hold_out(documents: list[Document], seed: int) -> tuple[list[ReferenceExample], list[Document]]:
    """Return up to 200 cloze items from docstrings, and the documents that stay.

    One item per source file. Every document of that file leaves, and so does every other
    document in which the item's passage (8 words before the gap, and the continuation) occurs.
    """
    texts = [b" " + _words(document.text) + b" " for document in documents]
    blob = b"\n".join(texts)
    starts = list(accumulate((len(text) + 1 for text in texts[:-1]), initial=0))
    reference: list[ReferenceExample] = []
    held_files: set[str] = set()
    tried: set[str] = set()
    removed: set[int] = set()
    docs = [document for document in documents if document.domain == "docstring"]
    docs.sort(key=lambda d: (_order(seed, "file", d.file), _order(seed, "item", d.source)))
    num_items = min(NUM_REFERENCE, int(HELD_OUT_SHARE * len({d.file for d in docs})))
    for document in docs:
        if len(reference) == num_items:
            break
        item = None if document.file in tried else cloze(document.text)
        if item is None:
            continue
        tried.add(document.file)
        matches = re.finditer(re.escape(_passage(item)), blob)
        hits = {bisect_right(starts, match.start()) - 1 for match in matches}
        elsewhere = {i for i in hits if documents[i].file != document.file}
        # An item whose passage stands in a held-out file too would be counted twice.
        if len(elsewhere) > MAX_COPIES or not hits.isdisjoint(removed):
            continue
        reference.append(item)
        held_files.add(document.file)
        removed |= hits
    kept = [d for i, d in enumerate(documents) if i not in removed and d.file not in held_files]
    return reference, kept


def cloze(text: str) -> ReferenceExample | None:
    """Cut a docstring at the first space after 60% of it; None where no prose follows.

    The continuation is the next 6 to 12 words of the same paragraph, with the leading space.
    """
    if not CLOZE_CHARS[0] <= len(text) <= CLOZE_CHARS[1]:
        return None
    for gap in GAP.finditer(text, int(0.6 * len(text))):
        words = CLOZE_WORDS.match(text[gap.start() :].partition("\n\n")[0])
        if words and sum(c.isalpha() or c.isspace() for c in words[0]) >= 0.9 * len(words[0]):
            return ReferenceExample(context=text[: gap.start()], continuation=words[0])
    return None


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the cleaned docstring of a module's objects ("" = module).

    Raises SyntaxError, ValueError or RecursionError for a file that this Python cannot parse.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's files
        tree = ast.parse(source)
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, name = stack.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{name}.{node.name}".lstrip(".")
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text is not None:
                yield name, inspect.cleandoc(text).strip()
        stack += [(n, name) for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]


def split_text(text: str, min_chars: int, max_chars: int) -> list[str]:
    """Split a text into parts of at most ``max_chars``, unless one line is longer than that.

    A part ends before a heading once it has ``min_chars``, before a paragraph once it has twice
    as many, and before any line when it is full.
    """
    parts = [""]
    lines = text.strip().split("\n")
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        size = len(parts[-1])
        opens = not before.strip()  # a paragraph, or a heading
        heading = opens and HEADING.match(f"{line}\n{after}") is not None
        due = size >= min_chars if heading else opens and size >= 2 * min_chars
        if size and (due or size + len(line) > max_chars):
            parts.append("")
        parts[-1] += line + "\n"
    return [part.strip() for part in parts]


def _collect_sources(
    packages: list[_Package], seed: int, code: _Collector, docstring: _Collector
) -> None:
    for package, path in _in_turn(packages, seed, lambda name: name.endswith(".py")):
        if code.full and docstring.full:
            return
        text = _read(package.files[path])
        if text is None:
            continue
        file = f"{package.name}:{path}"
        if CODE_BYTES[0] <= len(text.encode()) <= CODE_BYTES[1]:
            code.add(file, file, text)
        try:
            found = [] if docstring.full else list(docstrings(text))
        except (SyntaxError, ValueError, RecursionError):  # templates, other Python versions
            continue
        for name, body in found:
            if len(body) >= MIN_CHARS:
                docstring.add(file, f"{file}:{name}" if name else file, body)


def _collect_texts(
    packages: list[_Package], seed: int, description: _Collector, licence: _Collector
) -> None:
    for package, path in _in_turn(packages, seed, lambda name: not name.endswith(".py")):
        text = _read(package.files[path])
        if text is None:
            continue
        name = path.rpartition("/")[2]
        if name == "METADATA":
            text = str(message_from_string(text).get_payload())
        into = licence if LICENCE_FILE.match(name) else description
        _add_parts(into, f"{package.name}:{path}", text)
    for topic, text in (item for package in packages for item in _topics(package)):
        _add_parts(description, f"stdlib:{TOPICS}:{topic}", text)


def _topics(package: _Package) -> Iterator[tuple[str, str]]:
    """Yield the language reference that ``help()`` shows: one dict literal of long strings."""
    text = _read(package.files[TOPICS]) if TOPICS in package.files else None
    for node in ast.walk(ast.parse(text or "")):
        if isinstance(node, ast.Dict):
            yield from ast.literal_eval(node).items()


def _add_parts(collector: _Collector, file: str, text: str) -> None:
    for number, part in enumerate(split_text(text, *PART_CHARS[collector.domain])):
        if len(part) >= MIN_CHARS:
            collector.add(file, f"{file}#{number:03d}", part)


def _distributions() -> list[_Package]:
    """Return the installed distributions that mads needs, without mads itself, by name."""
    found: dict[str, _Package] = {}
    try:
        waiting = _requirements(metadata.distribution("mads"))
    except metadata.PackageNotFoundError:
        waiting = list(DEPENDENCIES)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found or name == "mads":
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # a requirement of another platform
            continue
        files = {
            path.as_posix(): Path(str(distribution.locate_file(path)))
            for path in distribution.files or []
            if _wanted(path.as_posix())
        }
        found[name] = _Package(name, files)
        waiting += _requirements(distribution)
    return [found[name] for name in sorted(found)]


def _requirements(distribution: metadata.Distribution) -> list[str]:
    lines = [line for line in distribution.requires or [] if not EXTRA_MARKER.search(line)]
    return [match[1] for line in lines if (match := REQUIREMENT.match(line))]


def _standard_library() -> _Package:
    root = Path(sysconfig.get_paths()["stdlib"])
    files: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        paths = [Path(folder, name).relative_to(root).as_posix() for name in names]
        files |= {path: root / path for path in paths if _wanted(path)}
    return _Package("stdlib", files)


def _wanted(path: str) -> bool:
    """Tell whether a file can hold code, documentation or a licence."""
    *folders, name = path.split("/")
    if ".." in folders or not SKIPPED_FOLDERS.isdisjoint(folders) or SKIPPED_FILES.match(name):
        return False
    if LICENCE_FILE.match(name):
        return not name.endswith((".py", ".pyc", ".so", ".json"))
    if any(folder.endswith((".dist-info", ".egg-info")) for folder in folders):
        return name == "METADATA"
    return name.endswith((".py", ".rst", ".md", ".txt"))


def _in_turn(
    packages: list[_Package], seed: int, wanted: Callable[[str], bool]
) -> list[tuple[_Package, str]]:
    """Order files by hash and take one of each package in turn, so that no giant fills it all."""
    ranked: list[tuple[int, str, _Package, str]] = []
    for package in packages:
        keys = sorted((_order(seed, package.name, p), p) for p in package.files if wanted(p))
        ranked += [(rank, key, package, path) for rank, (key, path) in enumerate(keys)]
    ranked.sort(key=lambda entry: entry[:2])
    return [(package, path) for _, _, package, path in ranked]


def _order(seed: int, *names: str) -> str:
    return hashlib.sha256("\0".join((str(seed), *names)).encode()).hexdigest()


def _read(path: Path) -> str | None:
    """Return a UTF-8 text with LF line ends, or None for a file that is not one."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None


def _words(text: str) -> bytes:
    """Return the ASCII words, lower-cased: equal for a docstring and its indented source."""
    return b" ".join(WORD.findall(text.lower().encode("utf-8", "replace")))


def _passage(item: ReferenceExample) -> bytes:
    before = _words(item.context).split()[-OVERLAP_WORDS:]
    return b" " + b" ".join([*before, *_words(item.continuation).split()]) + b" "


def _check(counts: Mapping[str, int], packages: list[_Package], max_bytes: int) -> None:
    few = [f"{name} ({count})" for name, count in counts.items() if count < MIN_DOCS]
    if few:
        raise DataError(
            f"The embedded corpus has fewer than {MIN_DOCS} documents of: {', '.join(few)}. "
            f"Looked in the standard library at {sysconfig.get_paths()['stdlib']} and in the "
            f"installed packages {', '.join(p.name for p in packages) or '(none)'}, for at most "
            f"{max_bytes:,} bytes per domain. Raise that limit, install mads with its "
            "dependencies, or name a corpus of your own in the recipe."
        )


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

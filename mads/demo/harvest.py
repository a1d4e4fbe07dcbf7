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
import re
import sys
import sysconfig
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_string
from itertools import accumulate
from pathlib import Path

from mads.demo.installed import (
    LICENCE_FILE,
    Package,
    distributions,
    in_turn,
    order_of,
    read_source,
    standard_library,
)
from mads.errors import DataError, UsageError
from mads.files import LOCK, file_sha256, fresh_folder, write_text
from mads.layout import refuse_inside
from mads.types import ReferenceExample

DOMAINS = ("code", "docstring", "description", "licence")
REFERENCE = "reference.jsonl"
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
    """Write ``corpus/<domain>.jsonl`` and ``reference.jsonl`` into a folder, all or nothing.

    ``max_bytes_per_domain`` counts the UTF-8 bytes of the texts before reference items are held
    out. Raises DataError when a domain has fewer than 20 documents, UsageError when ``out`` holds
    anything but just these files.
    """
    refuse_inside(out)
    with fresh_folder(out) as folder:
        if folder is None:
            _refuse_foreign(out)
        files, summary = _harvested(seed, max_bytes_per_domain)
        if folder is None:
            _compare(out, files)
            return summary
        for name, text in files.items():
            write_text(folder / name, text)
    return summary


def _harvested(seed: int, max_bytes: int) -> tuple[dict[str, str], HarvestSummary]:
    """Return the texts of all files, by name."""
    packages = [*distributions(), standard_library()]
    paths = sysconfig.get_paths()
    # Generated files may spell out where this Python is installed.
    folders = {paths["stdlib"], paths["purelib"], sys.prefix, sys.base_prefix}
    folders -= {"/usr", "/usr/local"}
    collectors = {name: _Collector(name, max_bytes, folders) for name in DOMAINS}
    _collect_sources(packages, seed, collectors["code"], collectors["docstring"])
    _collect_texts(packages, seed, collectors["description"], collectors["licence"])
    documents = [document for name in DOMAINS for document in collectors[name].documents]
    reference, kept = hold_out(documents, seed)
    corpus = {name: [d for d in kept if d.domain == name] for name in DOMAINS}
    counts = {name: len(members) for name, members in corpus.items()}
    _check({**counts, "reference": len(reference)}, packages, max_bytes)

    files = {}
    for name, members in corpus.items():
        members.sort(key=lambda document: document.source)
        rows = [{"text": d.text, "meta": {"domain": d.domain, "source": d.source}} for d in members]
        files[_corpus_file(name)] = _jsonl(rows)
    files[REFERENCE] = _jsonl(
        [{"context": item.context, "continuation": item.continuation} for item in reference]
    )
    return files, HarvestSummary(
        num_docs=counts,
        num_bytes={name: sum(len(d.text.encode()) for d in corpus[name]) for name in DOMAINS},
        num_reference=len(reference),
    )


def _corpus_file(domain: str) -> str:
    return f"corpus/{domain}.jsonl"


def _refuse_foreign(out: Path) -> None:
    """Raise UsageError for a folder with a file that no call makes."""
    ours = {REFERENCE, *map(_corpus_file, DOMAINS)}
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if strange := sorted(found - ours - {LOCK}):
        raise UsageError(
            f"{out} is not empty: it holds {strange[0]}, which `mads harvest` has not made. Give "
            "another --out."
        )


def _compare(out: Path, files: Mapping[str, str]) -> None:
    """Raise UsageError unless a folder holds just what this call makes."""
    for name, text in files.items():
        path = out / name
        if not path.is_file():
            raise UsageError(f"{out} is not empty, and lacks {name}. Give another --out.")
        found, expected = file_sha256(path), hashlib.sha256(text.encode()).hexdigest()
        if found != expected:
            raise UsageError(
                f"{path} is there already with another content: its sha256 is {found[:16]}, "
                f"this call makes {expected[:16]}. Give another --out, or delete {out} if it is of "
                "another seed or of older packages."
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
    docs.sort(key=lambda d: (order_of(seed, "file", d.file), order_of(seed, "item", d.source)))
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
    packages: list[Package], seed: int, code: _Collector, docstring: _Collector
) -> None:
    for package, path in in_turn(packages, seed, lambda name: name.endswith(".py")):
        if code.full and docstring.full:
            return
        text = read_source(package.files[path])
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
    packages: list[Package], seed: int, description: _Collector, licence: _Collector
) -> None:
    for package, path in in_turn(packages, seed, lambda name: not name.endswith(".py")):
        text = read_source(package.files[path])
        if text is None:
            continue
        name = path.rpartition("/")[2]
        if name == "METADATA":
            text = str(message_from_string(text).get_payload())
        into = licence if LICENCE_FILE.match(name) else description
        _add_parts(into, f"{package.name}:{path}", text)
    for topic, text in (item for package in packages for item in _topics(package)):
        _add_parts(description, f"stdlib:{TOPICS}:{topic}", text)


def _topics(package: Package) -> Iterator[tuple[str, str]]:
    """Yield the language reference that ``help()`` shows: one dict literal of long strings."""
    text = read_source(package.files[TOPICS]) if TOPICS in package.files else None
    for node in ast.walk(ast.parse(text or "")):
        if isinstance(node, ast.Dict):
            yield from ast.literal_eval(node).items()


def _add_parts(collector: _Collector, file: str, text: str) -> None:
    for number, part in enumerate(split_text(text, *PART_CHARS[collector.domain])):
        if len(part) >= MIN_CHARS:
            collector.add(file, f"{file}#{number:03d}", part)


def _words(text: str) -> bytes:
    """Return the ASCII words, lower-cased: equal for a docstring and its indented source."""
    return b" ".join(WORD.findall(text.lower().encode("utf-8", "replace")))


def _passage(item: ReferenceExample) -> bytes:
    before = _words(item.context).split()[-OVERLAP_WORDS:]
    return b" " + b" ".join([*before, *_words(item.continuation).split()]) + b" "


def _check(counts: Mapping[str, int], packages: list[Package], max_bytes: int) -> None:
    few = [f"{name} ({count})" for name, count in counts.items() if count < MIN_DOCS]
    if few:
        raise DataError(
            f"The embedded corpus has fewer than {MIN_DOCS} documents of: {', '.join(few)}. "
            f"Looked in the standard library at {sysconfig.get_paths()['stdlib']} and in the "
            f"installed packages {', '.join(p.name for p in packages) or '(none)'}, for at most "
            f"{max_bytes:,} bytes per domain. Raise that limit, install mads with its "
            "dependencies, or name a corpus of your own in the recipe."
        )


def _jsonl(rows: Iterable[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

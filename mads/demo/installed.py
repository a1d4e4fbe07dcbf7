"""What is installed on every machine that has mads: the standard library and what mads needs.

Files are only read, and no package is imported.
"""

from __future__ import annotations

import hashlib
import os
import re
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

DEPENDENCIES = (
    *("duckdb", "fasttext-community", "numpy", "pyarrow", "rich"),
    *("safetensors", "tokenizers", "torch", "transformers", "typer"),
)
"""Where the walk over requirements begins when mads itself is not an installed distribution."""

SKIPPED_FOLDERS = {
    *("site-packages", "dist-packages", "__pycache__", "idlelib", "lib2to3"),
    *("test", "tests", "_vendor", "vendor"),
}
SKIPPED_FILES = re.compile(r"_sysconfigdata|CMakeLists|requirements.*\.txt")
LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
EXTRA_MARKER = re.compile(r";.*\bextra\s*==")


@dataclass(frozen=True, slots=True)
class Package:
    """The files of one distribution, or of the standard library, by relative POSIX path."""

    name: str
    files: Mapping[str, Path]


def distributions() -> list[Package]:
    """Return the installed distributions that mads needs, without mads itself, by name."""
    found: dict[str, Package] = {}
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
            if is_text(path.as_posix())
        }
        found[name] = Package(name, files)
        waiting += _requirements(distribution)
    return [found[name] for name in sorted(found)]


def _requirements(distribution: metadata.Distribution) -> list[str]:
    lines = [line for line in distribution.requires or [] if not EXTRA_MARKER.search(line)]
    return [match[1] for line in lines if (match := REQUIREMENT.match(line))]


def standard_library() -> Package:
    """Return the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files: dict[str, Path] = {}
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        paths = [Path(folder, name).relative_to(root).as_posix() for name in names]
        files |= {path: root / path for path in paths if is_text(path)}
    return Package("stdlib", files)


def is_text(path: str) -> bool:
    """Tell whether a file can hold code, documentation or a licence."""
    *folders, name = path.split("/")
    if ".." in folders or not SKIPPED_FOLDERS.isdisjoint(folders) or SKIPPED_FILES.match(name):
        return False
    if LICENCE_FILE.match(name):
        return not name.endswith((".py", ".pyc", ".so", ".json"))
    if any(folder.endswith((".dist-info", ".egg-info")) for folder in folders):
        return name == "METADATA"
    return name.endswith((".py", ".rst", ".md", ".txt"))


def in_turn(
    packages: list[Package], seed: int, wanted: Callable[[str], bool]
) -> list[tuple[Package, str]]:
    """Order files by hash and take one of each package in turn, so that no giant fills it all."""
    ranked: list[tuple[int, str, Package, str]] = []
    for package in packages:
        keys = sorted((order_of(seed, package.name, p), p) for p in package.files if wanted(p))
        ranked += [(rank, key, package, path) for rank, (key, path) in enumerate(keys)]
    ranked.sort(key=lambda entry: entry[:2])
    return [(package, path) for _, _, package, path in ranked]


def order_of(seed: int, *names: str) -> str:
    """Return the place of a name in a seeded order."""
    return hashlib.sha256("\0".join((str(seed), *names)).encode()).hexdigest()


def read_source(path: Path) -> str | None:
    """Return a UTF-8 text with LF line ends, or None for a file that is not one."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None

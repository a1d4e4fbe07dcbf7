"""The shape of the code in one table: lengths, packages, imports both ways, loose types, comments.

python scripts/code_metrics.py [FOLDER]
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = "mads"


def quantiles(values: Sequence[int]) -> str:
    """Return the median, the 90% quantile and the largest value."""
    ordered = sorted(values)
    ninth = ordered[min(len(ordered) * 9 // 10, len(ordered) - 1)]
    return f"{statistics.median(ordered):g} / {ninth} / {ordered[-1]}"


def functions(tree: ast.Module) -> Iterator[int]:
    """Yield the length of each function, in lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield node.end_lineno - node.lineno + 1


def package_of(path: Path, root: Path) -> str:
    """Return the package, or the module on top, that a file belongs to."""
    first = path.relative_to(root).parts[0]
    return first.removesuffix(".py")


def imported(tree: ast.Module) -> set[str]:
    """Return the packages of mads that a module imports, in functions too."""
    found = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith(f"{ROOT}.")}
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1] / ROOT)
    root = parser.parse_args().folder
    lines: dict[str, int] = defaultdict(int)
    lengths: list[int] = []
    sizes: list[int] = []
    edges: set[tuple[str, str]] = set()
    loose = comments = 0
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        package = package_of(path, root)
        count = len(text.splitlines())
        lines[package] += count
        sizes.append(count)
        lengths += functions(tree)
        edges |= {(package, other) for other in imported(tree) if other != package}
        loose += text.count("dict[str, Any]") + text.count("Mapping[str, Any]")
        comments += sum(line.lstrip().startswith("#") for line in text.splitlines())
    both = sorted({tuple(sorted(pair)) for pair in edges if pair[::-1] in edges})
    total = sum(sizes)
    packages = sorted(lines.items(), key=lambda item: -item[1])[:6]
    rows = {
        "files, lines": f"{len(sizes)}, {total}",
        "file length p50 / p90 / max": quantiles(sizes),
        "function length p50 / p90 / max": quantiles(lengths),
        "largest packages": ", ".join(f"{name} {size}" for name, size in packages),
        "imports both ways": ", ".join(f"{a}-{b}" for a, b in both) or "none",
        "dict[str, Any] and Mapping[str, Any]": str(loose),
        "comment lines per line": f"{comments / total:.3f}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()

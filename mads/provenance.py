"""What made a result: versions, machine, command."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mads


def provenance(**extra: Any) -> Mapping[str, Any]:
    """Return the versions and the machine behind a result, with the caller's own facts."""
    packages = ("torch", "transformers", "tokenizers", "pyarrow", "duckdb", "fasttext-community")
    return {
        "mads": mads.__version__,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "machine": {"system": platform.platform(), "cores": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        **extra,
    }

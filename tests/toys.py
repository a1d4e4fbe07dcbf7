"""What toy corpora and stores are made of (see the fixtures of conftest.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mads.config import Recipe

Document = dict[str, Any]
MakeStore = Callable[..., Path]
MakeRecipe = Callable[..., Recipe]


def write_jsonl(path: Path, documents: Sequence[Document]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path

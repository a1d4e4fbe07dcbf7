"""Corpora whose records are known by their fields, with the fields of the text and of the id."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """A corpus's layout: ``marks`` are fields that all its records have, and others lack."""

    name: str
    marks: frozenset[str]
    id_field: str = ""  # the corpus gives its documents none
    text_field: str = "text"


# The sources are the corpora's own cards: FineWeb and FineWeb-Edu (Hugging Face), SlimPajama-627B,
# the Dolma toolkit's docs/data-format.md, whose format OLMo-mix and Dolmino have too, and
# DCLM-baseline-1.0.
LAYOUTS = (
    Layout("FineWeb", frozenset({"text", "id", "dump", "url", "language_score"}), "id"),
    Layout("SlimPajama", frozenset({"text", "meta.redpajama_set_name"})),
    Layout(
        "DCLM",
        frozenset({"text", "url", "warcinfo", "metadata.WARC-Record-ID"}),
        "metadata.WARC-Record-ID",
    ),
    Layout("Dolma or OLMo-mix", frozenset({"text", "id", "source", "added"}), "id"),
)


def recognise(names: Collection[str]) -> Layout | None:
    """Return the layout of records with these fields (dotted paths); None for no known one."""
    return next((layout for layout in LAYOUTS if layout.marks <= set(names)), None)

"""What can be said of a corpus before long work, and of a store once it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mads.agents.agent import QuantileBins
from mads.annotate.growth import Before
from mads.config import CorpusConfig, Recipe
from mads.corpus.files import CorpusFile, look_at
from mads.corpus.layouts import Layout
from mads.corpus.look import check_fields, without_text
from mads.corpus.places import place_of
from mads.corpus.readers.reader import RowFormat
from mads.errors import DataError, UsageError
from mads.layout import StoreDir
from mads.types import ID, OWN_FIELDS, Agent, Status

NO_IDS = "-"


@dataclass(frozen=True, slots=True)
class Checked:
    """The files that a store is made from, and what is said of those that were skipped."""

    files: list[CorpusFile]
    skipped: list[str]


def with_fields(recipe: Recipe, before: Before, layout: Layout | None) -> Recipe:
    """Return the recipe with the field of ids: the user's, else the store's, else the layout's."""
    asked = recipe.corpus.id_field
    if not asked and before.spec is not None:
        asked = before.spec.id_field
    elif not asked and layout is not None and layout.text_field == recipe.corpus.text_field:
        asked = layout.id_field
    id_field = "" if asked == NO_IDS else asked
    return replace(recipe, corpus=replace(recipe.corpus, id_field=id_field))


def check_corpus(
    files: Sequence[CorpusFile],
    before: Before,
    recipe: Recipe,
    agents: Mapping[str, Agent | QuantileBins],
    workers: int,
) -> Checked:
    """Look at what is new of a corpus and at what new agents want of it.

    ``files`` have whole paths. Raises UsageError for fields that no record has, DataError for
    files without a text and for more bad rows than may be.
    """
    config = recipe.corpus
    known = {file.sha256 for file in before.spec.files} if before.spec is not None else set()
    new = [file for file in files if file.sha256 not in known and file.num_rows]
    row_format = RowFormat(config.text_field, (), config.max_doc_bytes)
    heads = list(look_at(new, row_format, workers))
    problems = {
        file.path: without_text(place_of(file.path), head, config.text_field)
        for file, head in heads
        if not head.has_text
    }
    if problems and len(problems) == len(new) and not known:
        check_fields([place_of(p) for p in problems], {config.text_field: "corpus.text_field"})
    if problems and (config.files_without_text == "refuse" or len(problems) == len(files)):
        lines = "\n".join(f"  - {problem}" for problem in problems.values())
        raise DataError(
            f"{len(problems)} of {len(files)} corpus files hold no documents:\n{lines}\nLeave them "
            "out, or skip such files with --set corpus.files_without_text=skip."
        )
    kept = [file for file in files if file.path not in problems]
    _check_new_fields(kept, before, config, agents)
    num_bad = sum(head.num_bad for file, head in heads if file.path not in problems)
    num_rows = sum(file.num_rows for file in kept)
    if num_bad > config.max_bad * num_rows:
        raise DataError(
            f"{num_bad:,} of the first rows of {len(new)} files are bad (no text, empty, too long "
            f"or undecodable), which is more than --max-bad {config.max_bad:g} allows of "
            f"{num_rows:,} rows. Nothing was made. Correct the corpus, or allow more."
        )
    return Checked(kept, list(problems.values()))


def _check_new_fields(
    files: Sequence[CorpusFile],
    before: Before,
    config: CorpusConfig,
    agents: Mapping[str, Agent | QuantileBins],
) -> None:
    known = before.agents()
    wanted = {
        field: f"agent {name!r}"
        for name, agent in agents.items()
        if (name, agent.fingerprint) not in known
        for field in agent.fields
    }
    if ID in wanted and not config.id_field:
        raise UsageError(
            f"{wanted[ID]} matches documents by their ids, but corpus.id_field names no field. Set "
            "it to the field of the corpus's own ids."
        )
    wanted = {field: who for field, who in wanted.items() if field not in OWN_FIELDS}
    if config.id_field and before.spec is None:
        wanted[config.id_field] = "corpus.id_field"
    check_fields([place_of(file.path) for file in files if file.num_rows], wanted)


def check_bad_rows(store: StoreDir, rows: int, statuses: Mapping[str, int], max_bad: float) -> None:
    """Raise DataError where more of a complete store's rows are bad than may be."""
    num_bad = rows - statuses[Status.OK.value]
    if num_bad <= max_bad * rows:
        return
    kinds = ", ".join(
        f"{count:,} {name}" for name, count in statuses.items() if count and name != Status.OK.value
    )
    raise DataError(
        f"{num_bad:,} of {rows:,} rows ({num_bad / rows:.2%}) are bad ({kinds}), more "
        f"than --max-bad {max_bad:g} allows. {store.root} is complete and was kept."
    )

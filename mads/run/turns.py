"""What turns of `mads step` are made from, and what can be wrong with one; without torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tokenizers import Tokenizer

from mads.codec import Within, from_json
from mads.config import Recipe
from mads.errors import UsageError
from mads.files import file_sha256, read_sealed_json
from mads.layout import OPTIMIZER, RunDir
from mads.run.folder import check_folder
from mads.run.ready import check_recipe, refuse_training_losses, started
from mads.store.store import Store

REMEDY = "Delete it and run the same `mads step` again; it makes the round anew."
Moments = Literal["", "file", "estimated"]


@dataclass(frozen=True, slots=True)
class Turn:
    """turn.json: what a round was made from and for."""

    checkpoint: str  # sha256 over the model's weights; empty without a checkpoint
    tokens: Annotated[int, Within(1, 2**62)]  # asked for
    moments: Moments  # where the second moments are from

    def steps(self, batch_tokens: int) -> int:
        """Return how many batches the round has."""
        return batches_of(self.tokens, batch_tokens)


def batches_of(tokens: int, batch_tokens: int) -> int:
    """Return the whole batches that hold so many tokens.

    >>> batches_of(1000, 512)
    2
    """
    return -(-tokens // batch_tokens)


@dataclass(frozen=True, slots=True)
class Turned:
    """What a turn has made, or found made."""

    round: int
    complete: bool  # it was there already
    folder: str
    num_docs: int
    num_tokens: int
    moments: Moments


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """A checkpoint: the model's folder, and a file of its optimizer's moments, if there is one."""

    folder: Path
    optimizer: Path | None = None

    def weights(self) -> list[Path]:
        """Return the files of the weights; raises UsageError for a folder without any."""
        if not self.folder.is_dir():
            raise UsageError(f"--checkpoint: {self.folder} does not exist, or is no folder.")
        files = sorted(path for path in self.folder.glob("*.safetensors") if path.name != OPTIMIZER)
        if not files:
            raise UsageError(
                f"--checkpoint: {self.folder} holds no *.safetensors. Give a folder that "
                "`save_pretrained` of transformers has written."
            )
        return files

    def identity(self) -> str:
        """Return the sha256 over the weights, all of which are read."""
        sums = "".join(file_sha256(path) for path in self.weights())
        return hashlib.sha256(sums.encode()).hexdigest()

    def moments(self) -> Path | None:
        """Return the optimizer's file: the one given, or that of a checkpoint of `mads train`."""
        own = self.folder / OPTIMIZER
        return self.optimizer or (own if own.is_file() else None)


def check_turn(
    store: Store, out: Path, recipe: Recipe, tokens: int, given: Checkpointed | None
) -> None:
    """Raise UsageError or DataError for what cannot be turned; torch is not needed for it."""
    check_recipe(store, out, recipe)
    strategy = started(store.cells, recipe)
    refuse_training_losses(strategy)
    if tokens < recipe.training.batch_tokens:
        raise UsageError(
            f"--tokens: found {tokens:,}, expected {recipe.training.batch_tokens:,} or more, one "
            "batch (training.batch_tokens)."
        )
    run = RunDir(out)
    if out.exists() and check_folder(run, store, recipe, "step") is not None:
        raise UsageError(f"{out} was begun with another training.steps. Give the same recipe.")
    number = len(turns(run))
    if given is None and number > 0:
        raise UsageError(
            f"--checkpoint: {out} has {number} round(s); the next one needs the model that has "
            "read them. Give its Hugging Face folder."
        )
    if given is not None:
        given.weights()
        _check_tokenizer(store, given.folder)
        if given.optimizer is not None and not given.optimizer.is_file():
            raise UsageError(f"--optimizer: {given.optimizer} does not exist.")


def _check_tokenizer(store: Store, folder: Path) -> None:
    path = folder / "tokenizer.json"
    if not path.is_file() or file_sha256(path) == store.tokenizer.fingerprint:
        return
    try:
        words = Tokenizer.from_file(str(path)).get_vocab()
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(f"--checkpoint: {path} cannot be read: {error}.") from error
    if words != store.tokenizer.tokenizer.get_vocab():
        raise UsageError(
            f"--checkpoint: {path} is not the store's tokenizer ({store.dir.tokenizer}), whose "
            "token ids the model would be measured on. Give a model of the store's tokens."
        )


def turns(run: RunDir) -> list[Turn]:
    """Return the complete turns of a run, in order; raises DataError for a damaged one."""
    found: list[Turn] = []
    while (path := run.round(len(found)).turn).is_file():
        value = read_sealed_json(path, REMEDY)
        found.append(from_json(Turn, value, path, "a turn.json", REMEDY))
    return found

"""The most and the least rewarded documents of a run, with the beginnings of their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mads.run.reader import RunRound
from mads.store.store import Store

SHOWN = 5  # documents at each end
EXCERPT_TOKENS = 90


@dataclass(frozen=True, slots=True)
class RewardedDocument:
    """A document whose reward was measured; ``labels`` are category by agent."""

    doc: int
    file: str
    row: int
    reward: float
    labels: Mapping[str, str]
    excerpt: str
    num_tokens: int
    id: str | None = None  # the user's own


def rewarded_documents(
    store: Store, rounds: Sequence[RunRound]
) -> tuple[int | None, tuple[RewardedDocument, ...]]:
    """Return the last measured round, and its documents of the largest and smallest rewards.

    The most rewarded one comes first. A document that was probed twice counts once.
    """
    for one in rounds[::-1]:
        agents = list(one.store(store).spec.agents)
        table = one.rewards(["doc", "reward", *agents])
        if table is None:
            continue
        reward_N = table["reward"].to_numpy()
        _, first_N = np.unique(table["doc"].to_numpy(), return_index=True)
        kept_N = first_N[np.isfinite(reward_N[first_N])]
        order_N = kept_N[np.argsort(-reward_N[kept_N], kind="stable")]
        if len(order_N) > 2 * SHOWN:
            order_N = np.concatenate([order_N[:SHOWN], order_N[-SHOWN:]])
        rows = table.take(order_N.tolist()).to_pylist()
        return one.number, tuple(
            _document(store, row["doc"], row["reward"], {a: row[a] for a in agents}) for row in rows
        )
    return None, ()


def _document(store: Store, doc: int, reward: float, labels: Mapping[str, str]) -> RewardedDocument:
    reader, row = store.tokens(doc)
    tokens = reader.row(row, 0, EXCERPT_TOKENS).tolist()
    length = reader.length(row)
    text: str = store.tokenizer.tokenizer.decode(tokens, skip_special_tokens=True)
    file_N, row_N = store.locate(np.array([doc], np.uint64))
    return RewardedDocument(
        doc=doc,
        id=store.ids(np.array([doc], np.uint64))[0],
        file=store.spec.files[int(file_N[0])].path,
        row=int(row_N[0]),
        reward=reward,
        labels=labels,
        excerpt=text.strip("\ufffd") + ("…" if length > len(tokens) else ""),
        num_tokens=length,
    )

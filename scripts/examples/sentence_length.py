"""An agent of your own: how long a text's sentences are, in words.

[agents.sentences]
backend = "python"
code = "scripts/examples/sentence_length.py:SentenceLength"
options = { longest = 200 }
edges = [12, 24]
categories = ["short", "medium", "long"]
"""

from __future__ import annotations

import re


class SentenceLength:
    """Scores a text with the mean words of its sentences, at most ``longest``."""

    fields = ("source",)  # of the corpus, besides the text; leave it out if you need none

    def __init__(self, longest: int = 100) -> None:
        """Take the section's options; load a model here if you have one."""
        self.longest = longest

    def score(self, texts: list[str], fields: dict[str, list[object]]) -> list[float]:
        """Return one number for each text."""
        sources = fields["source"]
        return [self._mean(text, source) for text, source in zip(texts, sources, strict=True)]

    def _mean(self, text: str, source: object) -> float:
        if source == "code":
            return 0.0
        sentences = [part for part in re.split(r"[.!?]+", text) if part.strip()]
        words = [min(len(sentence.split()), self.longest) for sentence in sentences]
        return sum(words) / max(len(words), 1)

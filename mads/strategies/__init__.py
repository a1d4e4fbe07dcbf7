"""Strategies: what turns evidence into scores. The agent console is one of them.

Each owns its state, which a round keeps as console.json.
"""

from __future__ import annotations

from pathlib import Path

from mads.config import Recipe
from mads.errors import DataError, did_you_mean
from mads.files import read_sealed_json
from mads.strategies.console import Console
from mads.strategies.fixed import Fixed
from mads.strategies.mixture import Mixture
from mads.strategies.odm import Odm
from mads.strategies.strategy import Strategy
from mads.strategies.uniform import Random

STRATEGIES: dict[str, type[Strategy]] = {
    "console": Console,
    "fixed": Fixed,
    "mixture": Mixture,
    "odm": Odm,
    "random": Random,
}

REMEDY = "Give a console.json as `mads train` writes it."


def read_strategy(path: Path, recipe: Recipe, *, by_hand: bool = False) -> Strategy:
    """Read a strategy's state (console.json); its settings are the recipe's.

    A file that people may write themselves (``by_hand``) needs round, theta and weights only.
    Raises DataError when the file is missing or damaged, was changed, or names no strategy.
    """
    value = read_sealed_json(path, REMEDY, by_hand=by_hand)
    name = value.get("strategy", Console.name if by_hand else None)
    if not isinstance(name, str) or name not in STRATEGIES:
        raise DataError(
            f"{path} names no strategy: found {name!r}; {did_you_mean(str(name), STRATEGIES)}"
        )
    return STRATEGIES[name].from_json(value, path, recipe)

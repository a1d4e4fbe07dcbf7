"""What a console state's JSON may hold: the words and the range that its readers share."""

from __future__ import annotations

from typing import Annotated

from mads.codec import Within
from mads.config import LARGEST_WEIGHT

Number = Annotated[float, Within(-LARGEST_WEIGHT, LARGEST_WEIGHT)]

WHAT = "a console state"
REMEDY = (
    "Give a console.json as `mads train` writes it, or one of your own with round, theta and "
    "weights."
)

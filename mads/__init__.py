"""Multi-agent data selection for language-model pretraining (arXiv 2410.08102)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mads.run.callback import SessionCallback as SessionCallback
    from mads.run.session import Session as Session

__version__ = "0.1.0"
__all__ = ["Session", "SessionCallback", "__version__"]


def __getattr__(name: str) -> object:
    """Import what needs torch when it is asked for."""
    if name == "Session":
        from mads.run.session import Session

        return Session
    if name == "SessionCallback":
        from mads.run.callback import SessionCallback

        return SessionCallback
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

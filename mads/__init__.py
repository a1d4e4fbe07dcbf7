"""Multi-agent data selection for language-model pretraining (arXiv 2410.08102)."""

__version__ = "0.1.0"

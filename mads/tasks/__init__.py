"""Reference and evaluation items: formats in, tokenised tasks out; no torch."""

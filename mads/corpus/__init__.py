"""Formats in, documents out; the tokenised store.

files (what is there) -> rows (its documents) -> tokenizer, tokens (what a trainer reads)
"""

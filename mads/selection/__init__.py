"""Cells and weights in, documents out: exact, and independent of the corpus's size.

plan (scores -> token quotas per cell, pure) -> query (quotas -> documents, DuckDB) -> export
"""

"""What `mads annotate` writes, as later stages open it: all of it Parquet, JSON and tokens.

spec (what it is made from) -> documents, memory -> build (memories -> the index's cells and
order) -> manifest -> store (by which all of it is opened)
"""

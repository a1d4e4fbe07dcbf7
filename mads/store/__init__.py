"""What `mads annotate` writes, as later stages open it: all of it Parquet, JSON and tokens.

spec (what it is made from) -> memory, sealed (files that know their own bytes) -> buckets, index
(memories -> cells, order) -> store (the manifest, by which all of it is opened)
"""

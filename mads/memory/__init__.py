"""The store: agents' memories, the documents' table and the cell index, all in Parquet.

annotate (corpus -> documents, tokens, memories; quantile bins) -> index (memories -> cells, order)
-> store (the manifest, by which later stages open all of it)
"""

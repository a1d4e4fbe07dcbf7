"""The offline stage: corpus -> documents, tokens, memories, cell index, manifest.

annotate (the story) -> job (what a process does with a span of shards) -> executors (who runs
it) -> binned, quantiles (scores into categories, once all are there)
"""

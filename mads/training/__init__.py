"""Pretraining: model, data, optimizer steps, checkpoints.

Suffixes: B sequences of a batch, T tokens of a sequence, N documents.
"""

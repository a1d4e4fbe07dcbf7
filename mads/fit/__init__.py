"""Fitting the models of agents to a store's texts: `cluster` and `target`."""

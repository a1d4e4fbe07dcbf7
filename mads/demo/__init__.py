"""The embedded corpus of the demo, made from what is installed."""

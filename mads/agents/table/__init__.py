"""The ``table`` back-end: labels that are paid for already, in files beside the corpus.

``agent.py`` has the section and the agent; ``files.py`` finds and reads the table; ``by_id.py``
and ``by_row.py`` find a document's label in it.
"""

"""The online stage: select -> train -> measure rewards -> update -> select.

loop sequences and does nothing else; schedule, feedback, records and folder are its parts.
"""

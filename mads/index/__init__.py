"""The cell index: the table of cells, and the order of their documents, cell by cell."""

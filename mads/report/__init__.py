"""What a store and a run say: explain, what-if, diff. All return dataclasses."""

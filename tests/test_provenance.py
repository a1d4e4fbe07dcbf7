"""What made a result."""

from __future__ import annotations

import json

import mads
from mads.provenance import provenance


def test_provenance_names_versions_machine_and_facts() -> None:
    facts = provenance(store="abc")
    assert facts["mads"] == mads.__version__
    assert facts["store"] == "abc"
    assert set(facts["packages"]) >= {"torch", "pyarrow", "duckdb"}
    assert json.loads(json.dumps(facts)) == facts

"""The limits of the benchmarks: each names a figure that is measured, and what was measured keeps to them."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks.limits import AT_LEAST, AT_MOST, beyond
from benchmarks.measure import RESULTS, Figure


def test_the_kept_figures_keep_to_their_limits_and_one_beyond_is_named() -> None:
    kept = {each["name"]: Figure(**each) for each in json.loads(RESULTS.read_text())}
    assert set(AT_LEAST) | set(AT_MOST) <= set(kept)
    assert beyond(kept.values()) == []
    slow = replace(kept["postgres.backup.vs_shell"], ratio=3.4)
    large = replace(kept["catalog.status_memory.of_100000"], value=201.0)
    assert [each.split(":")[0] for each in beyond([slow, large])] == [slow.name, large.name]

"""What the drills of MySQL and PostgreSQL share: a restored copy held against its manifest and its dump."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from engine.drill.rows import RowSets
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, plural
from engine.manifest import Manifest
from engine.source import Comparison


def structure_and_volume(manifest: Manifest, comparison: Comparison) -> Iterator[Check]:
    """Definitions, tables and row counts of the copy, against what the server said when it was backed up."""
    expected, found = comparison.expected, comparison.found
    differing = [name for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]]
    counted = {f"{name}: {found[name]} rows, the manifest says {expected[name]}" for name in differing}
    counted |= {f"table {name} has {found[name]} rows, the backup {expected[name]}" for name in differing}
    others = [each for each in comparison.problems if each not in counted]
    if others:
        yield Check("structure", "tables and definitions", FAILED, "they differ from the backup's", tuple(others))
    elif comparison.schema_equal is None:
        notes = tuple(each for each in (comparison.unchecked, *comparison.notes) if each)
        yield Check("structure", "tables and definitions", UNVERIFIED, "the definitions could not be compared", notes)
    else:
        mark = manifest.schema_sha256[:12]
        said = f"{plural(len(found), 'table')} and every definition are as they were (fingerprint {mark})"
        yield Check("structure", "tables and definitions", PROVEN, said)
    if differing:
        words = [f"table {name}: {found[name]:,} rows, the manifest says {expected[name]:,}" for name in differing]
        yield Check("volume", "row counts", FAILED, "the copy has other rows than the server had", tuple(words))
    elif not expected and found and not manifest.uncounted:
        yield Check("volume", "row counts", UNVERIFIED, "the manifest holds no row counts to compare with")
    else:
        rows = sum(found[name] for name in expected if name in found)
        held = f"{plural(rows, 'row')} in {plural(len(expected), 'table')}"
        said = f"{held}, each as many as the server counted at the backup"
        yield Check("volume", "row counts", PROVEN, said)


def stream_volume(manifest: Manifest, stream: Mapping[str, int], found: Mapping[str, int]) -> Iterator[Check]:
    """The rows in the dump itself, against the manifest and, where that did not count, against the copy."""
    problems = [f"table {name} is not in the dump, the manifest says {rows:,} rows"
                for name, rows in sorted(manifest.rows.items()) if name not in stream]  # fmt: skip
    problems += [f"table {name}: {stream[name]:,} rows in the dump, the manifest says {rows:,}"
                 for name, rows in sorted(manifest.rows.items()) if stream.get(name, rows) != rows]  # fmt: skip
    if problems:
        yield Check("volume", "rows in the dump", FAILED, "the dump is not what its manifest says", tuple(problems))
        return
    uncounted = [name for name in found if name not in manifest.rows and name in stream]
    problems = [f"table {name}: {found[name]:,} rows, {stream[name]:,} in the dump"
                for name in sorted(uncounted) if found[name] != stream[name]]  # fmt: skip
    if problems:
        yield Check("volume", "rows in the dump", FAILED, "the copy has other rows than its dump", tuple(problems))
        return
    said = f"{sum(stream.values()):,} rows in the dump, table by table as many as the manifest says"
    yield Check("volume", "rows in the dump", PROVEN, said)


def row_digests(sample: Iterable[str], of: int, stream: RowSets, copy: RowSets, *, comparable: bool) -> Check:
    """Every row of the sampled tables in the dump, against the copy dumped again.

    Args:
        of: How many tables there are.
        comparable: Both were written by the same version of the same program.
    """
    names = list(sample)
    wrong = [_differing(name, stream, copy) for name in names if stream.of(name) != copy.of(name)]
    rows = sum(stream.of(name).rows for name in names)
    which = f"{len(names)} of {of} tables" if len(names) < of else "all tables"
    if not wrong:
        said = f"{rows:,} rows of {which} are the same in the dump and in the copy dumped again ({', '.join(names[:8])}"
        return Check("content", "row by row", PROVEN, said + (", ...)" if len(names) > 8 else ")"))
    if not comparable:
        said = "rows are written differently, by another version of the dump program than made the backup"
        return Check("content", "row by row", UNVERIFIED, said, tuple(wrong))
    return Check("content", "row by row", FAILED, "the copy dumped again does not hold the same rows", tuple(wrong))


def _differing(name: str, stream: RowSets, copy: RowSets) -> str:
    one, other = stream.of(name), copy.of(name)
    if one.rows != other.rows:
        return f"table {name}: {other.rows:,} rows, {one.rows:,} in the dump"
    return f"table {name}: of {one.rows:,} rows some differ ({other.digest[:12]}, in the dump {one.digest[:12]})"

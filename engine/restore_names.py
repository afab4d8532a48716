"""What a restore request may name: parts that the chosen backup holds, and a new database that can be made.

Everything here is known before a server is asked and before anything is loaded.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from engine.errors import ConfigError, UnknownName, nearest
from engine.manifest import Manifest
from engine.source import Selection

_KEPT = "nothing was changed"
_SYSTEM = {
    "mysql": frozenset({"mysql", "sys", "information_schema", "performance_schema"}),
    "postgres": frozenset({"template0", "template1"}),
}


def check_request(kind: str, into: str, selection: Selection) -> None:
    """Refuse what no backup could give: schemas of MySQL, a system's database, a name that is too long.

    Args:
        kind: ``mysql`` or ``postgres``.
        into: The name asked for; empty where none was.

    Raises:
        ConfigError: saying which.
    """
    if kind == "mysql" and selection.schemas:
        raise ConfigError(
            f"MySQL and MariaDB have no schemas inside a database (asked for: {', '.join(selection.schemas)}).",
            kept=_KEPT,
            remedy="choose tables with --tables",
        )
    if (into.casefold() if kind == "mysql" else into) in _SYSTEM.get(kind, ()):
        raise ConfigError(
            f"{into!r} is a database of the server's own; nothing is restored into it.",
            kept=_KEPT,
            remedy="choose another name with --into",
        )
    if kind == "mysql" and len(into) > 64:
        raise _too_long(into, f"{len(into)} characters long; MySQL and MariaDB allow 64")
    if kind == "postgres" and len(into.encode()) > 63:
        raise _too_long(into, f"{len(into.encode())} bytes long; PostgreSQL allows 63")


def check_parts(manifest: Manifest, selection: Selection) -> None:
    """Every table and schema asked for is in the backup; a pattern with ``*`` matches at least one.

    A backup that was taken in without knowing its tables is not judged here: loading it does that.

    Raises:
        UnknownName: naming all that match nothing, and what is near.
    """
    tables = _tables(manifest)
    if manifest.adopted and not tables:
        return
    _all_known("table", selection.tables, tables, manifest)
    if selection.schemas:
        _all_known("schema", selection.schemas, _schemas(manifest, tables), manifest)


def check_parts_of_any(manifests: Sequence[Manifest], selection: Selection) -> None:
    """Every table and schema asked for is in one of these backups of a database; without any, nothing is judged.

    Raises:
        UnknownName: naming all that are in none, and what is near.
    """
    if not manifests or any(each.adopted and not _tables(each) for each in manifests):
        return
    tables = {name for each in manifests for name in _tables(each)}
    schemas = {name for each in manifests for name in _schemas(each, _tables(each))} if selection.schemas else set()
    for what, asked, known in (("table", selection.tables, tables), ("schema", selection.schemas, schemas)):
        missing = _missing(asked, known)
        if missing:
            raise UnknownName(
                f"No backup of {manifests[0].source}/{manifests[0].database} from about then has a {what} "
                f"{', '.join(repr(each) for each in missing)}.",
                kept=_KEPT,
                remedy=f"{nearest(missing[0], sorted(known))}; what was made and dropped between two backups can be "
                "had from the whole database: leave the selection out",
            )


def _missing(asked: Iterable[str], known: set[str]) -> list[str]:
    return [each for each in asked if not any(fnmatch.fnmatchcase(name, each) for name in known)]


def _all_known(what: str, asked: Iterable[str], known: set[str], manifest: Manifest) -> None:
    missing = _missing(asked, known)
    if not missing:
        return
    shown = ", ".join(repr(each) for each in missing)
    raise UnknownName(
        f"Backup {manifest.file} of {manifest.source}/{manifest.database} has no {what} {shown}.",
        kept=_KEPT,
        remedy=nearest(missing[0], sorted(known)),
    )


def _tables(manifest: Manifest) -> set[str]:
    """Every table whose rows the backup holds, and those that have partitions."""
    partitions: dict[str, list[str]] = manifest.contents.get("partitions", {})
    definitions: dict[str, str] = manifest.contents.get("definitions", {})
    return {
        *manifest.rows,
        *manifest.uncounted,
        *(parent for parents in partitions.values() for parent in parents),
        *(name for kind, _, name in (each.partition(" ") for each in definitions) if kind in ("table", "sequence")),
    }


def _schemas(manifest: Manifest, tables: set[str]) -> set[str]:
    """Every schema of the backup, also one that holds only functions or nothing."""
    from engine.postgres.quoting import split_label

    parts: dict[str, str] = manifest.contents.get("schema_parts", {})
    found = {split_label(each)[0] for each in tables}
    found |= {each.removeprefix("SCHEMA ") for each in parts if each.startswith("SCHEMA ")}
    return found | set(manifest.contents.get("schemas") or ("public",))


def _too_long(into: str, why: str) -> ConfigError:
    return ConfigError(f"The name {into!r} is {why}.", kept=_KEPT, remedy="choose a shorter name with --into")

"""The fingerprint of a schema: one short digest per object, from the words of pg_dump itself.

Comments, ``SET`` lines and psql's own lines are left out, objects are taken in the order of their
names, and the order of GRANTs does not matter: a faithful copy under any database name has the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from engine.postgres.connection import Connector
from engine.postgres.dump_text import DumpScanner, Piece, Section
from engine.postgres.quoting import ident
from engine.postgres.tools import Tools

# What --schema-only leaves out, and what belongs to the database rather than to what is in it.
_NOT_SCHEMA = {
    "TABLE DATA",
    "SEQUENCE SET",
    "BLOB",
    "BLOBS",
    "BLOB METADATA",
    "BLOB COMMENTS",
    "MATERIALIZED VIEW DATA",
    "STATISTICS DATA",
    "DATABASE",
    "DATABASE PROPERTIES",
}
_DIGEST = 12
MAX_PARTS = 5000


def is_definition(section: Section | None) -> bool:
    """Is this a definition, rather than data or a property of the database?"""
    return (
        section is not None
        and section.type not in _NOT_SCHEMA
        and not (
            section.type in {"ACL", "COMMENT", "SECURITY LABEL"}
            and section.name.startswith(("LARGE OBJECT", "DATABASE"))
        )
    )


class Fingerprint:
    """Takes the pieces of a dump and knows, at the end, what its schema is."""

    def __init__(self) -> None:
        self._texts: dict[Section, bytearray] = {}

    def take(self, piece: Piece) -> None:
        """Look at one piece; data passes by."""
        if piece.kind == "sql" and piece.section is not None and is_definition(piece.section):
            self._texts.setdefault(piece.section, bytearray()).extend(piece.data)

    def parts(self, schemas: Sequence[str] = ()) -> dict[str, str]:
        """A short digest by object, such as ``TABLE public.t``; of these schemas only, when given."""
        found: dict[str, list[str]] = {}
        for section, text in self._texts.items():
            if schemas and not belongs(section, schemas):
                continue
            lines = [line for line in bytes(text).splitlines() if line.strip()]
            if section.type in {"ACL", "DEFAULT ACL"}:
                lines.sort()
            digest = hashlib.sha256(b"\n".join([section.owner.encode(), *lines])).hexdigest()[:_DIGEST]
            found.setdefault(section.key, []).append(digest)
        return {key: "+".join(sorted(digests)) for key, digests in sorted(found.items())}


def belongs(section: Section, schemas: Sequence[str]) -> bool:
    """Is it in one of these schemas, or one of them itself, or its rights or comment?"""
    if section.schema:
        return section.schema in schemas
    if section.type == "SCHEMA":
        return section.name in schemas
    return section.name.startswith("SCHEMA ") and section.name.removeprefix("SCHEMA ").strip('"') in schemas


def digest(parts: Mapping[str, str]) -> str:
    """One SHA-256 over all parts."""
    return hashlib.sha256("\n".join(f"{key} {value}" for key, value in sorted(parts.items())).encode()).hexdigest()


def digest_of_names(parts: Iterable[str]) -> str:
    """One SHA-256 over the kinds and names of all parts."""
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def missing_or_new(expected: Iterable[str], found: Iterable[str]) -> list[str]:
    """Objects that only one side has, in words."""
    one, other = set(expected), set(found)
    return [f"{key} is missing" for key in sorted(one - other)] + [
        f"{key} is not in the backup" for key in sorted(other - one)
    ]


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs, in words, one line an object."""
    lines = missing_or_new(expected, found)
    lines += [
        f"{key} is defined differently" for key in sorted(expected.keys() & found.keys()) if expected[key] != found[key]
    ]
    return lines


def of_database(
    connector: Connector,
    tools: Tools,
    database: str,
    schemas: Sequence[str] = (),
    *,
    token: str = "",
    options: str = "",
) -> dict[str, str]:
    """The parts of a living database, by ``pg_dump --schema-only``."""
    scanner, fingerprint = DumpScanner(), Fingerprint()
    command = tools.command(
        "pg_dump",
        "--schema-only",
        "--encoding=UTF8",
        "--no-password",
        *only(schemas),
        env=connector.tool_environment(database, token=token, options=options),
    )
    with tools.runner.start(command, timeout=connector.config.timeout_seconds) as process:
        for chunk in process.chunks():
            for piece in scanner.feed(chunk):
                fingerprint.take(piece)
        process.wait()
    for piece in scanner.finish():
        fingerprint.take(piece)
    return fingerprint.parts()


def only(schemas: Sequence[str]) -> list[str]:
    """pg_dump's options for these schemas, each name taken as it is."""
    return [f"--schema={ident(schema)}" for schema in schemas] + (["--strict-names"] if schemas else [])

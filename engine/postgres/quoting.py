"""How PostgreSQL writes names and values, and how this package writes ``schema.table``."""

from __future__ import annotations

import re

_PLAIN_PART = re.compile(r'[^."]+')
_PART = re.compile(r'"(?:[^"]|"")*"|[^."]+')


def ident(name: str) -> str:
    """A name as an identifier, always in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """``"schema"."name"``."""
    return f"{ident(schema)}.{ident(name)}"


def literal(text: str) -> str:
    """A string constant, whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    return f" E'{quoted}'".replace("\\", "\\\\") if "\\" in quoted else f"'{quoted}'"


def conninfo(value: str) -> str:
    """A value inside a libpq connection string."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def label(schema: str, table: str) -> str:
    """``schema.table`` as manifests and selections write it; a part that holds a dot or a double quote
    is quoted as an identifier, so that two tables never share a label."""
    return ".".join(part if _PLAIN_PART.fullmatch(part) else ident(part) for part in (schema, table))


def split_label(text: str) -> tuple[str, str]:
    """The schema and the table of a label."""
    parts = [unquote(part) for part in _PART.findall(text)]
    if len(parts) != 2:
        raise ValueError(f"{text!r} is not schema.table")
    return parts[0], parts[1]


def unquote(part: str) -> str:
    """An identifier as written in SQL, as the catalog holds it."""
    if len(part) >= 2 and part.startswith('"') and part.endswith('"'):
        return part[1:-1].replace('""', '"')
    return part

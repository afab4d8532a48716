"""Which tables a selection means, and which parts of a dump a partial restore takes.

A partial restore takes every definition (types, functions, tables, views, indexes, constraints, rights),
all sequence values and large objects, but rows of the chosen tables only; the other tables stand empty.
Foreign keys are set where both ends are chosen; materialized views are filled in chosen schemas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.manifest import Manifest
from engine.postgres.dump_text import Piece
from engine.postgres.quoting import label, split_label, unquote
from engine.source import Selection

_IDENT = r'(?:"(?:[^"]|"")*"|[^\s."(),;]+)'
_FOREIGN_KEY = re.compile(
    rf"ALTER TABLE (?:ONLY )?({_IDENT})\.({_IDENT})\s.*?FOREIGN KEY .*?REFERENCES ({_IDENT})\.({_IDENT})\(", re.DOTALL
)


class Chosen:
    """A selection over the tables of one backup.

    Args:
        selection: What a person asked for; a partitioned table means its partitions.
        partitions: Ancestors by partition, as labels.
    """

    def __init__(self, selection: Selection, partitions: Mapping[str, list[str]]) -> None:
        self.selection = selection
        self._partitions = partitions

    @classmethod
    def of(cls, manifest: Manifest, selection: Selection) -> Chosen:
        """The selection over a backup."""
        return cls(selection, manifest.contents.get("partitions", {}))

    @property
    def everything(self) -> bool:
        return self.selection.everything

    def table(self, name: str) -> bool:
        """Is this table (by label) part of it, itself or through a table it is a partition of?"""
        names = [name, *self._partitions.get(name, [])]
        return any(self.selection.wants(each, split_label(each)[0]) for each in names)

    def schema(self, name: str) -> bool:
        """Is all of this schema part of it?"""
        return self.everything or (
            bool(self.selection.schemas) and Selection(schemas=self.selection.schemas).wants("", name)
        )

    def takes(self, piece: Piece) -> bool:
        """Does a restore of this selection run this piece of a dump?"""
        if self.everything or piece.section is None:
            return True
        if piece.kind in ("copy", "rows"):
            return self.table(piece.table)
        if piece.section.type == "MATERIALIZED VIEW DATA":
            return self.schema(piece.section.schema)
        if piece.section.type == "FK CONSTRAINT" and piece.kind == "sql":
            return self._foreign_key(piece.data.decode("utf-8", "replace"))
        return True

    def _foreign_key(self, statement: str) -> bool:
        found = _FOREIGN_KEY.search(statement)
        if found is None:
            return not statement.strip()
        from_schema, from_table, to_schema, to_table = (unquote(part) for part in found.groups())
        return self.table(label(from_schema, from_table)) and self.table(label(to_schema, to_table))

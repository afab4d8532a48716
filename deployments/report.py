"""What ``backups apply`` did, as lines for a person and facts for a script."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from deployments.merge import Merge

Echo = Callable[[str], None]


def _quiet(line: str) -> None:
    """Says nothing."""


@dataclass
class ApplyReport:
    """Attributes:
    created, changed, kept, unchanged: Things by name, such as ``vault/workset``.
    notes: What a person should know besides.
    """

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    echo: Echo = _quiet

    @property
    def nothing_changed(self) -> bool:
        return not self.created and not self.changed

    def made(self, thing: str) -> None:
        """Something new was made."""
        self.created.append(thing)
        self.echo(f"+ {thing}: created")

    def same(self, thing: str) -> None:
        """It was already as it should be."""
        self.unchanged.append(thing)

    def note(self, text: str) -> None:
        """Something to know."""
        self.notes.append(text)
        self.echo(f"  {text}")

    def merged(self, thing: str, merge: Merge, secret: Collection[str] = ()) -> None:
        """Say how a merge of settings came out; secret fields only as 'changed'."""
        for name, (before, after) in merge.changed.items():
            self.echo(f"~ {thing}: {name} {_difference(before, after, name in secret)}")
        for name, (file, saved) in merge.kept.items():
            self.echo(
                f"! {thing}: {name} was edited in the UI and stays; the site file differs: "
                f"{_difference(saved, file, name in secret)} (--force takes the file's)"
            )
        if merge.kept:
            self.kept.append(thing)
        if merge.changed:
            self.changed.append(thing)
        elif not merge.kept:
            self.unchanged.append(thing)

    def summary(self) -> str:
        """One line."""
        if self.nothing_changed:
            edits = f"; {len(self.kept)} with edits made in the UI were left alone" if self.kept else ""
            return f"Nothing to change: {len(self.unchanged)} things are as the site file says{edits}."
        return (
            f"{len(self.created)} created, {len(self.changed)} changed, "
            f"{len(self.unchanged)} unchanged, {len(self.kept)} left as edited in the UI."
        )

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "created": self.created,
            "changed": self.changed,
            "kept": self.kept,
            "unchanged": self.unchanged,
            "notes": self.notes,
        }


def _difference(before: Any, after: Any, secret: bool) -> str:
    if secret:
        return "changed (secret)"
    return f"{_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

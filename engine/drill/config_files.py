"""Restore drill of config files: into a scratch directory, every file's digest against the signed listing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.archive import member as kinds
from engine.catalog import Entry
from engine.config_files.diff import difference
from engine.config_files.plan import ConfigPlan, ConfigRequest, make_plan
from engine.config_files.restore import ConfigRestore
from engine.config_files.source import shown
from engine.drill.base import Piece, SourceDrill, room_needed
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED, Check, plural
from engine.errors import IntegrityError
from engine.manifest import Manifest
from engine.scratch import leftovers

_DIGESTS = "every file's digest"
_AGAIN = ("owner ", "mode ", "attributes")
"""What only root can give back."""


@dataclass
class Directory:
    """A scratch directory, and what was restored into it, by the name of its archive."""

    path: Path
    plans: dict[str, ConfigPlan] = field(default_factory=dict)


class ConfigFilesDrill(SourceDrill[Directory]):
    """One source of files; any that is kept as an archive with a listing can be drilled so."""

    kind = "config"

    @contextlib.contextmanager
    def place(self) -> Iterator[Directory]:
        state = self.site.vault.state
        needed = sum(piece.manifest.data.plain_size for piece in self.pieces if piece.copies)
        with leftovers.held(state, self.source, "files") as journal:
            path = leftovers.make_directory(journal, leftovers.journals(state))
            room_needed(f"A drill of {self.source}", needed, shutil.disk_usage(path).free, str(path))
            yield Directory(path)

    def describe(self, place: Directory) -> str:
        return "a scratch directory on this host"

    def restore(self, place: Directory, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        into = place.path / "files"
        shutil.rmtree(into, ignore_errors=True)
        plan = make_plan(self.site, ConfigRequest(self.source, manifest.file, entry.location, str(into)))
        work = _Unlocked(self.site, plan, progress=self.work.progress)
        work.put()
        place.plans[piece.database] = plan
        return [note for note in work.notes if note not in manifest.incomplete]

    def prove(self, place: Directory, piece: Piece) -> Iterator[Check]:
        manifest, plan = piece.manifest, place.plans[piece.database]
        missing = [path for path in plan.roots if not os.path.lexists(f"{plan.into}{path}")]
        if missing or manifest.incomplete:
            problems = (*(f"{shown(path)} is not there" for path in missing), *manifest.incomplete)
            yield Check("structure", "paths", FAILED, "the backup lacks some", problems)
        else:
            yield Check("structure", "paths", PROVEN, f"{plural(len(plan.roots), 'path')} of the backup: there")
        yield _volume(manifest, plan)
        yield _content(plan)


class _Unlocked(ConfigRestore):
    """A restore into a directory that nobody else knows of: no backup or restore need wait for it."""

    def __enter__(self) -> ConfigRestore:
        raise AssertionError("a drill takes no locks")


def _volume(manifest: Manifest, plan: ConfigPlan) -> Check:
    found: Counter[str] = Counter()
    for member in plan.members:
        path = f"{plan.into}/{member.path}"
        if os.path.lexists(path):
            is_directory = os.path.isdir(path) and not os.path.islink(path)
            found["directories" if is_directory else "links" if os.path.islink(path) else "files"] += 1
    listed = Counter(_KIND.get(member.type, "files") for member in plan.members)
    wrong = tuple(f"{found[each]:,} {each}, the listing names {listed[each]:,}" for each in sorted(listed | found)
                  if found[each] != listed[each])  # fmt: skip
    if wrong:
        return Check("volume", "files, directories, links", FAILED, "the copy has others than the listing", wrong)
    if not listed and manifest.contents.get("files"):
        return Check("volume", "files, directories, links", UNVERIFIED, "the listing is empty")
    return Check("volume", "files, directories, links", PROVEN, f"{manifest.holds}, as listed")


_KIND = {kinds.DIRECTORY: "directories", kinds.LINK: "links"}


def _content(plan: ConfigPlan) -> Check:
    """Every digest, mode, owner, time and attribute. Raises IntegrityError: nothing was restored."""
    if not plan.members:
        raise IntegrityError(f"{plan.manifest.file} holds nothing.")
    found = difference(plan.members, plan.into, [], [])
    root = os.geteuid() == 0
    wrong = [each for each in found.changes if root or not all(word.startswith(_AGAIN) for word in each.what)]
    if wrong or found.blocked:
        told = [f"{shown(each.path.removeprefix(plan.into))}: {', '.join(each.what)}" for each in wrong]
        told += [f"{shown(each.removeprefix(plan.into))}: of another kind" for each in found.blocked]
        return Check("content", _DIGESTS, FAILED, "restored files are not those of the listing", tuple(told))
    files = sum(member.type == kinds.FILE for member in plan.members)
    return Check("content", _DIGESTS, PROVEN, f"of {plural(files, 'file')} digest, mode, owner and time are equal")

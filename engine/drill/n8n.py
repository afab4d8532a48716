"""Restore drill of n8n: imported into a scratch n8n of the source's own kind, exported again and compared.

The scratch n8n is never started, and nothing is ever made active. Where none can be had, every part is read and every
credential opened with the key of the backup, and nothing is imported: that it can be is not verified then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.catalog import Entry
from engine.config import N8nConfig
from engine.drill.base import OnlyRead, Piece, SourceDrill
from engine.drill.verdict import FAILED, PROVEN, Check, plural
from engine.errors import ConfigError, RestoreRefused, ToolFailed, ToolMissing, UnknownName
from engine.manifest import Manifest
from engine.n8n.instance import Instance
from engine.n8n.parts import Item, Parts, opened, proven_parts, same_workflow, unused_tags
from engine.n8n.plan import refuse_older
from engine.scratch.n8n import ScratchN8n, scratch_n8n


@dataclass
class Bench:
    """What a backup is tried in.

    Attributes:
        n8n: None where there is none; ``why`` says why, ``remedy`` what to set.
        restored: The n8n that a backup was imported into, and what was.
    """

    n8n: ScratchN8n | None = None
    why: str = ""
    remedy: str = ""
    restored: dict[str, tuple[Instance, Parts]] = field(default_factory=dict)


class N8nDrill(SourceDrill[Bench]):
    """One n8n."""

    kind = "n8n"

    @contextlib.contextmanager
    def place(self) -> Iterator[Bench]:
        config = self.site.config.source(self.source)
        assert isinstance(config, N8nConfig)
        if self.waived:
            yield Bench(why="drill.not_restored")
            return
        with contextlib.ExitStack() as held:
            try:
                scratch = held.enter_context(scratch_n8n(self.site, config))
            except (ToolMissing, UnknownName) as error:
                yield Bench(why=error.message.rstrip("."), remedy=_setting(config))
                return
            for each in self.pieces:
                if each.copies:
                    self._refuse_older(scratch, each.manifest)
            self.result.notes += scratch.notes
            yield Bench(scratch)

    def _refuse_older(self, scratch: ScratchN8n, manifest: Manifest) -> None:
        """Raises ConfigError: that says nothing of the backup."""
        try:
            refuse_older(scratch.version, manifest, "the scratch n8n")
        except RestoreRefused as error:
            raise ConfigError(error.message, remedy=error.remedy) from None
        made = manifest.contents.get("version")
        if made != scratch.version:
            self.result.notes.append(f"{manifest.file} is of n8n {made}, the scratch n8n is {scratch.version}")

    def describe(self, place: Bench) -> str:
        return place.n8n.where if place.n8n else f"nowhere: parts are read, and imported into no n8n ({place.why})"

    def only_read(self, place: Bench) -> OnlyRead | None:
        return None if place.n8n else self.nowhere(f"imported into no n8n: {place.why}", place.remedy)

    def alive(self, place: Bench) -> bool:
        return place.n8n is None or place.n8n.alive()

    def restore(self, place: Bench, piece: Piece, entry: Entry, manifest: Manifest) -> list[str]:
        parts = proven_parts(manifest, lambda role: self.site.vault.read_part(entry, manifest, role))
        if place.n8n is None:
            return []
        instance = place.n8n.instance(parts.key)
        for what, items in (("credentials", parts.credentials), ("workflow", parts.workflows)):
            if items:
                instance.bring_in(what, items)
        place.restored[piece.database] = instance, parts
        return []

    def prove(self, place: Bench, piece: Piece) -> Iterator[Check]:
        manifest = piece.manifest
        if manifest.incomplete:
            yield Check("structure", "workflows", FAILED, "the backup lacks some", tuple(manifest.incomplete))
        types = ", ".join(manifest.contents.get("credential_types", [])) or "none"
        if place.n8n is None:
            yield Check("opens", "workflows, credentials, tags", PROVEN, f"{manifest.holds}, as exported")
            yield Check("opens", "credentials", PROVEN, f"every one opened with the backup's own key: {types}")
            return
        instance, parts = place.restored[piece.database]
        there = instance.export("workflow")
        yield from _workflows(parts, there)
        wrong = credentials_wrong(instance, parts)
        if wrong:
            said = "n8n does not give them as they were"
            yield Check("content", "credentials", FAILED, said, tuple(wrong))
        else:
            said = f"{plural(len(parts.credentials), 'credential')} opened by n8n itself and compared: {types}"
            yield Check("content", "credentials", PROVEN, said)


def _setting(config: N8nConfig) -> str:
    """What leads to an n8n of the source's kind."""
    if config.container or config.service:
        setting = "container" if config.container else "service"
        return f"set {setting} of {config.name} to that of the container that n8n runs in"
    return f"set command of {config.name} to the n8n program of this host"


def _workflows(parts: Parts, there: list[Item]) -> Iterator[Check]:
    """Ids, what they do, tags, and that none is active."""
    known = {str(each["id"]): each for each in there}
    wanted = {str(each["id"]): each for each in parts.workflows}
    wrong = [f"workflow {each.get('name')!r} is not there" for id_, each in wanted.items() if id_ not in known]
    wrong += [f"workflow {each.get('name')!r} is in no backup" for id_, each in known.items() if id_ not in wanted]
    if wrong:
        yield Check("structure", "workflows", FAILED, "n8n has others than the backup", tuple(wrong))
    else:
        yield Check("structure", "workflows", PROVEN, f"{plural(len(there), 'workflow')}, each under its own id")
    wrong = [f"workflow {each.get('name')!r} is otherwise" for id_, each in wanted.items()
             if id_ in known and not same_workflow(each, known[id_])]  # fmt: skip
    if wrong:
        yield Check("content", "workflows", FAILED, "exported again they are not as in the backup", tuple(wrong))
    else:
        unused = unused_tags(parts)
        rest = f"; {plural(len(unused), 'tag')} of no workflow only read" if unused else ""
        yield Check("content", "workflows", PROVEN, f"exported again, each as it was, with its tags{rest}")
    active = tuple(f"workflow {each.get('name')!r} is active" for each in there if each.get("active"))
    if active:
        yield Check("meaning", "nothing active", FAILED, "the import made some active", active)
    else:
        yield Check("meaning", "nothing active", PROVEN, "every workflow came in inactive")


def credentials_wrong(instance: Instance, parts: Parts) -> list[str]:
    """Each credential that n8n itself does not open, or not to what the backup has. Where it opens not all, one of
    each type is tried by itself."""
    try:
        found = instance.export("credentials", opened=True) if parts.credentials else []
    except ToolFailed:
        return _opened_alone(instance, parts) or ["n8n does not give all of them, and gives one of each type"]
    known = {str(each["id"]): each for each in found}
    wrong = [_otherwise(each, known.get(str(each["id"])), parts.key) for each in parts.credentials]
    strange = known.keys() - {str(each["id"]) for each in parts.credentials}
    return [each for each in wrong if each] + [f"credential {known[each].get('name')!r} is in no backup"
                                               for each in sorted(strange)]  # fmt: skip


def _opened_alone(instance: Instance, parts: Parts) -> list[str]:
    wrong = []
    for each in {str(each.get("type")): each for each in parts.credentials}.values():
        try:
            found = instance.export("credentials", str(each["id"]), opened=True)
            wrong.append(_otherwise(each, found[0] if found else None, parts.key))
        except ToolFailed:
            wrong.append(f"credential {each.get('name')!r} ({each.get('type')}) is not opened by the encryption key")
    return [each for each in wrong if each]


def _otherwise(each: Item, there: Item | None, key: str) -> str:
    """Why a credential is not as in the backup; empty where it is. Never what it holds."""
    name = f"credential {each.get('name')!r} ({each.get('type')})"
    if there is None:
        return f"{name} is not there"
    if (there.get("name"), there.get("type")) != (each.get("name"), each.get("type")):
        return f"{name} has another name or type"
    return "" if there.get("data") == opened(each, key) else f"{name} holds something else"

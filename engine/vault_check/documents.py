"""Small signed documents beside the backups: sealed site files and records of drills. All are read each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from engine import names, sealed
from engine.drill import record as drills
from engine.errors import BackupError, NotFound
from engine.layout import Layout
from engine.sealed import open_sealed
from engine.vault import Vault
from engine.vault_check.work import YOUNG, Work, why


@dataclass(frozen=True)
class _Sort:
    """One sort of document.

    Attributes:
        names: The documents of a place: their names, which are the same everywhere, with keys and times.
        proves: Raises unless these bytes are the document of that key.
        expires: Old ones go by themselves.
    """

    what: str
    names: Callable[[Vault, str], Iterator[tuple[str, str, datetime]]]
    key: Callable[[Layout, str], str]
    proves: Callable[[Vault, bytes, str], None]
    expires: bool


def check_documents(work: Work) -> None:
    """Those of this place hold, and none is missing that another place has."""
    for sort in (_SITE_FILES, _DRILLS):
        here = {name: (key, at) for name, key, at in sort.names(work.vault, work.location)}
        for name, (key, _) in here.items():
            work.report.documents += 1
            wrong = _wrong(work, sort, key)
            if wrong:
                _heal(work, sort, name, key, wrong)
        for name in sorted(_missing(work, sort, here)):
            key = sort.key(work.layout, name)
            if work.store.stat(key) is None:
                _heal(work, sort, name, key, "it is missing, and stands elsewhere")


def _wrong(work: Work, sort: _Sort, key: str) -> str:
    try:
        sort.proves(work.vault, work.store.get(key), key)
    except NotFound:
        return ""  # expired meanwhile
    except BackupError as error:
        return why(error)
    return ""


def _missing(work: Work, sort: _Sort, here: dict[str, tuple[str, datetime]]) -> set[str]:
    """What another place has had for a day. Of what goes with its age only what is younger than the oldest here."""
    oldest = min((at for _, at in here.values()), default=None)
    found: set[str] = set()
    for place in work.others:
        try:
            for name, _, at in sort.names(work.vault, place):
                if name in here or at > work.now - YOUNG:
                    continue
                if not sort.expires or (oldest is not None and at > oldest):
                    found.add(name)
        except BackupError:
            continue  # that place tells of itself
    return found


def _heal(work: Work, sort: _Sort, name: str, key: str, words: str) -> None:
    found = work.find("document", key, f"{sort.what}: {words}")
    if not work.request.heal:
        found.left = "it was not asked for"
        return
    reasons = []
    for place in work.others:
        there = sort.key(work.vault.layout(place), name)
        try:
            data = work.vault.store(place).get(there)
            sort.proves(work.vault, data, there)
            work.store.delete(key)
            work.store.put(key, data)
        except NotFound:
            continue
        except BackupError as error:
            reasons.append(f"{place}: {why(error)}")
            continue
        found.healed = f"from {place}"
        return
    found.left = f"no good copy is known{': ' + '; '.join(reasons) if reasons else ''}"


def _site_files(vault: Vault, location: str) -> Iterator[tuple[str, str, datetime]]:
    layout = vault.layout(location)
    for each in sealed.listed(vault.store(location), sealed.folder_of(layout), vault.site):
        yield each.point, each.key, each.at


def _prove_site_file(vault: Vault, data: bytes, key: str) -> None:
    found = sealed.of_key(key)
    if found is not None:
        open_sealed(data, vault.keys, found)


def _drills(vault: Vault, location: str) -> Iterator[tuple[str, str, datetime]]:
    for key in drills.listed(vault, location):
        name = key.rsplit("/", 1)[-1]
        stamp = name.removeprefix(f"{vault.site}-").split("-")[0]
        at = names.moment_of(stamp)
        if at is not None:
            yield name, key, at


def _drill_key(vault_layout: Layout, name: str) -> str:
    return "/".join(part for part in (vault_layout.base, drills.FOLDER, name) if part)


_SITE_FILES = _Sort("a sealed site file", _site_files, sealed.key_of, _prove_site_file, True)
_DRILLS = _Sort("the record of a drill", _drills, _drill_key, drills.prove, False)

"""The abilities of a site's endpoints: probed when they are configured, noted, and shown since."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import names
from engine.config import ObjectStoreConfig, SiteConfig
from engine.errors import BackupError, ConfigError
from engine.stores.abilities import Abilities, Known, both, probe, probe_conditions, unmet
from engine.stores.s3_client import place_of
from engine.whole import replace_file

FILE = "endpoints.json"
_APART: dict[Known, str] = {
    "yes": "keeps hosts apart",
    "no": "does not keep hosts apart",
    "unknown": "not known whether it keeps hosts apart",
}


@dataclass
class Endpoints:
    """What was found.

    Attributes:
        found: By replica.
        unmet: What a replica's settings ask for and its endpoint cannot do, in words.
        unseen: Replicas that could not be asked.
    """

    found: dict[str, Abilities] = field(default_factory=dict)
    unmet: list[str] = field(default_factory=list)
    unseen: dict[str, BackupError] = field(default_factory=dict)

    def refuse_unmet(self) -> None:
        """Raises ConfigError where an endpoint cannot do what is asked of it."""
        if self.unmet:
            raise ConfigError(
                "\n".join(each + "." for each in self.unmet),
                kept="nothing was changed",
                remedy="change these settings, or the bucket; docs/stores.md says what each endpoint can do",
            )


def look(config: SiteConfig) -> Endpoints:
    """Probe every replica of a site. One that cannot be asked holds up no other."""
    done = Endpoints()
    for replica in config.vault.replicas:
        if replica.directory:
            continue
        try:
            abilities = probe(replica)
        except BackupError as error:
            done.unseen[replica.name] = error
            continue
        done.found[replica.name] = abilities
        done.unmet += unmet(replica, abilities)
    return done


def remember(state: Path, found: dict[str, Abilities]) -> None:
    """Note what was found in the vault's state directory; where that cannot be written, it is merely not shown."""
    _note(state, {name: each.as_dict() for name, each in found.items()})


def keeps_leases(state: Path, config: ObjectStoreConfig) -> Known:
    """Can a replica's endpoint keep the runs of several hosts apart? As it was noted; where it was not, or of another
    bucket, just this is tried and noted. Raises what ``probe`` does."""
    noted, place = remembered(state).get(config.name, {}), str(place_of(config))
    names_of = ("conditional_put", "conditional_replace")
    if noted.get("place") != place:
        noted = {"at": names.iso(names.now()), "place": place}
    if any(noted.get(name) not in ("yes", "no") for name in names_of):
        noted |= dict(zip(names_of, probe_conditions(config), strict=True))
        _note(state, {config.name: noted})
    return _apart(noted)


def _apart(noted: dict[str, Any]) -> Known:
    return both(noted.get("conditional_put", "unknown"), noted.get("conditional_replace", "unknown"))


def _note(state: Path, found: dict[str, dict[str, Any]]) -> None:
    with contextlib.suppress(OSError):
        if state.is_dir():
            replace_file(state / FILE, json.dumps({**remembered(state), **found}, indent=1, sort_keys=True))


def remembered(state: Path) -> dict[str, dict[str, Any]]:
    """What was noted, by replica, as of ``Abilities.as_dict``."""
    try:
        found = json.loads((state / FILE).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): each for name, each in found.items() if isinstance(each, dict) and _is_noted(each)}


def _is_noted(each: dict[str, Any]) -> bool:
    try:
        names.noted_moment(each["at"])
        return isinstance(each.get("classes", {}), dict)
    except (KeyError, ValueError):
        return False


def in_short(noted: dict[str, Any]) -> str:
    """One line for the status: ``locks, versioned; asked 2026-11-22``."""
    words = {
        "object_lock": "locks",
        "versioning": "versioned",
        "conditional_put": "never replaces",
        "checksums": "checks",
    }
    can = [word for name, word in words.items() if noted.get(name) == "yes"]
    cannot = [f"not: {name}" for name, answer in dict(noted.get("classes", {})).items() if answer != "yes"]
    told = [_APART[_apart(noted)]] if "conditional_replace" in noted else []
    if "deletes" in noted:
        told.append("its key may delete" if noted["deletes"] == "yes" else "its key may not delete")
    at = names.noted_moment(noted["at"])
    return f"{', '.join([*can, *cannot, *told])}; asked {at:%Y-%m-%d}"


__all__ = ["Endpoints", "in_short", "keeps_leases", "look", "remember", "remembered"]

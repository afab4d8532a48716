"""How old a key is, and new keys.

A key's id tells when it was made, where it ends in a date: ``k20261122``. Of any other key the day counts on which
this vault first used it, which is noted in the vault's state directory: a reminder is never early by that.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from engine import names
from engine.codec import KeyRing
from engine.whole import replace_file

OLD = timedelta(days=365)
"""A current key older than this is to be rotated."""
FILE = "keys.json"
_DATED = re.compile(r"(?:^|\D)(\d{8})$")
_BYTES = 48


@dataclass(frozen=True)
class NewKey:
    """A key that nobody has yet: 384 random bits, in characters that no shell, ``.env`` or YAML minds."""

    id: str
    passphrase: str = field(repr=False)


def new_key(now: datetime, taken: tuple[str, ...] = ()) -> NewKey:
    """A key called after its day (UTC); with a letter before the day where that is taken."""
    ids = (f"k{letter}{now.astimezone(UTC):%Y%m%d}" for letter in ("", *"bcdefghijklmnopqrstuvwxyz"))
    key_id = next(each for each in ids if each not in taken)
    return NewKey(key_id, secrets.choice("abcdefghijklmnopqrstuvwxyz") + secrets.token_urlsafe(_BYTES))


def date_in(key_id: str) -> datetime | None:
    """The day at the end of a key's id (UTC), or None."""
    found = _DATED.search(key_id)
    try:
        return datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def born(state: Path, keys: KeyRing) -> datetime | None:
    """Since when there is the current key (UTC), as far as is known."""
    dated = date_in(keys.current)
    if dated is not None:
        return dated
    noted = _noted(state).get(keys.current, {})
    if noted.get("check") != keys.key_check(keys.current):
        return None
    try:
        return names.noted_moment(noted["since"])
    except (KeyError, ValueError):
        return None


def note(state: Path, keys: KeyRing, now: datetime | None = None) -> None:
    """Note when the current key was first used here, unless its id or an earlier note tells. What cannot be noted
    is noted by the next run."""
    if date_in(keys.current) is not None:
        return
    known = _noted(state)
    check = keys.key_check(keys.current)
    if known.get(keys.current, {}).get("check") == check and born(state, keys) is not None:
        return
    known[keys.current] = {"check": check, "since": (now or names.now()).isoformat()}
    with contextlib.suppress(OSError):
        replace_file(state / FILE, json.dumps(known, indent=1, sort_keys=True))


def reminder(state: Path, keys: KeyRing, now: datetime | None = None) -> str:
    """That the current key is to be rotated, in words; empty when it is not, or when its age is not known."""
    since = born(state, keys)
    age = (now or names.now()) - since if since is not None else timedelta()
    if since is None or age <= OLD:
        return ""
    return (
        f"The current encryption key {keys.current!r} is {age.days} days old (since {since:%Y-%m-%d}). "
        "Make a new one with: backups key new; and make it current with: backups key rotate"
    )


def _noted(state: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads((state / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): value for key, value in found.items() if isinstance(value, dict)} if _is_map(found) else {}


def _is_map(found: object) -> bool:
    return isinstance(found, dict)

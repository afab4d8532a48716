"""Three-way merge of settings: what the file says, what the server holds, what was last applied.

Pure. Tells a change in the file from an edit in the UI, field by field, so that applying a site file
again neither loses a person's edit nor forgets the file's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Digests = dict[str, str]


@dataclass
class Merge:
    """What to save, and what to tell.

    Attributes:
        values: Every field's value to save.
        changed: Fields that the file changes, with (before, after).
        kept: Fields that were edited in the UI and stay so, with (file, saved).
        applied: Digests to remember for the next time.
    """

    values: dict[str, Any]
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    applied: Digests = field(default_factory=dict)


def digest(value: Any, salt: bytes) -> str:
    """A value's fingerprint, which gives nothing away without the salt."""
    text = json.dumps(value, sort_keys=True, default=str).encode()
    return hmac.new(salt, text, hashlib.sha256).hexdigest()[:32]


def merge(
    wanted: Mapping[str, Any], saved: Mapping[str, Any], last: Digests, salt: bytes, *, force: bool = False
) -> Merge:
    """Decide field by field.

    A saved value that differs from what was last applied was edited by a person: it stays, unless
    ``force``. A field that was never applied (a new release knows it) takes the file's value.
    """
    result = Merge(values=dict(saved))
    for name, value in wanted.items():
        mine, theirs = digest(value, salt), digest(saved.get(name), salt)
        edited = theirs != last.get(name, mine if name not in saved else theirs)
        if mine == theirs:
            result.applied[name] = mine
        elif edited and not force:
            result.kept[name] = (value, saved.get(name))
            if name in last:
                result.applied[name] = last[name]
        else:
            result.changed[name] = (saved.get(name), value)
            result.values[name] = value
            result.applied[name] = mine
    return result

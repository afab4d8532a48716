"""A moment named by what happened in it: «right before the statement that dropped users». Pure.

    before [first|last] KIND [TABLE] [, since TIME] [, until TIME]

    before DROP TABLE users
    before last DELETE shop.users, until 2026-11-22T10:00:00Z
    before DROP DATABASE shop, since 2026-11-20T00:00:00Z

``DROP users`` means the table, and the database with all its tables as well; ``DROP TABLE users`` the table
alone, ``DROP DATABASE shop`` the database alone. Without ``first`` or ``last`` there may be one such statement only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from engine import names
from engine.errors import ConfigError

SPAN = timedelta(days=1)
"""How far back is looked, where no ``since`` is given."""
KINDS = ("DROP", "TRUNCATE", "ALTER", "RENAME", "CREATE", "DELETE", "UPDATE", "INSERT")
EXAMPLE = "before DROP TABLE users, or: before last DELETE users, until 2025-01-16T14:31:07Z"
_QUOTED = re.compile(r"`((?:[^`]|``)+)`")
_FORM = re.compile(
    r"""before\s+
    (?:(?P<which>first|last)\s+)?
    (?P<kind>[a-z]+)
    (?:\s+(?P<thing>TABLE|DATABASE|SCHEMA|FROM|INTO))?(?:\s+IF\s+EXISTS)?
    (?:\s+(?P<name>(?:`(?:[^`]|``)+`|[^\s`,;])+))?
    (?:(?:\s*,\s*|\s+)since\s+(?P<since>[^,]+?))?
    (?:(?:\s*,\s*|\s+)until\s+(?P<until>[^,]+?))?
    \s*;?""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Statement:
    """What to look for.

    Attributes:
        kind: One of ``KINDS``.
        name: ``users``, ``shop.users``; ``*`` and ``?`` allowed; empty for any. Of a ``database`` its name. What
            stands in backticks is taken as it is: dots, stars, spaces.
        of: ``table`` or ``database``; empty for both.
        which: Of several: ``first``, ``last``; ``only`` when there may not be several.
        since, until: Committed between these, both included; UTC.
    """

    kind: str
    name: str = ""
    of: Literal["", "table", "database"] = ""
    which: Literal["only", "first", "last"] = "only"
    since: datetime | None = None
    until: datetime | None = None

    def __str__(self) -> str:
        words = [self.which if self.which != "only" else "", self.kind, self.of.upper(), self.name]
        limits = [f", {word} {names.iso(at)}" for word, at in (("since", self.since), ("until", self.until)) if at]
        return " ".join(["before", *filter(None, words)]) + "".join(limits)

    def pattern(self, database: str) -> str:
        """The tables that are meant, ``database.table``; an unqualified one is of the database that is restored."""
        if self.of == "database":
            return f"{self.name or database}.*"
        name = self.name or "*"
        return name if "." in _QUOTED.sub("", name) else f"{database}.{name}"

    def span(self, now: datetime) -> tuple[datetime, datetime | None]:
        """From when to when is looked."""
        return self.since or (self.until or now) - SPAN, self.until


def is_statement(text: str) -> bool:
    """Does a target begin like one of these?"""
    return bool(re.match(r"before\b", text.strip(), re.IGNORECASE))


def parse_statement(text: str) -> Statement:
    """What a person wrote.

    Raises:
        ConfigError: It is not of the form; there is no such kind; a time has no zone.
    """
    found = _FORM.fullmatch(text.strip())
    kind = found["kind"].upper() if found else ""
    if found is None or kind not in KINDS:
        raise ConfigError(
            f"{text!r} names no statement to stop before.",
            kept="nothing was changed",
            remedy=f"write: before [first|last] KIND [TABLE] [, since TIME] [, until TIME]; kinds: {', '.join(KINDS)}. "
            f"For example: {EXAMPLE}. For a moment give the time alone; an older backup: --backup 'before TIME'",
        )
    thing = (found["thing"] or "").upper()
    of: Literal["", "table", "database"] = ""
    if thing in ("TABLE", "DATABASE", "SCHEMA"):
        of = "table" if thing == "TABLE" else "database"
    since, until = (names.parse_moment(found[each]) if found[each] else None for each in ("since", "until"))
    if since and until and since > until:
        raise ConfigError(
            f"{text!r} ends before it begins.", kept="nothing was changed", remedy="give the earlier time as since"
        )
    which: Literal["only", "first", "last"] = "only"
    if found["which"]:
        which = "first" if found["which"].lower() == "first" else "last"
    return Statement(kind, _QUOTED.sub(_bare, found["name"] or ""), of, which, since, until)


def _bare(quoted: re.Match[str]) -> str:
    """Without backticks where they make no difference."""
    return quoted[1] if re.fullmatch(r"[\w$-]+", quoted[1]) else quoted[0]

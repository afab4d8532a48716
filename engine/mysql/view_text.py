"""The text of a view as servers and dumps write it, with its own database's name or without.

Mostly the server leaves that name out. It stays in where the view's definer is gone (MariaDB) or where the
view reads other databases too: ``select `shop`.`t`.`a` from `t```. Under another name such a view would
not be made, or read production; so its own database's name follows the database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.mysql.connection import quoted
from engine.mysql.statements import unquote

_PART = rb"`(?:[^`]|``)*`"
_WORDS = re.compile(rb"'(?:[^'\\]|\\.|'')*'|(?P<chain>" + _PART + rb"(?:\." + _PART + rb")*)", re.DOTALL)
_COMMENTS = re.compile(rb"\s*\*/\s*/\*M?!\d*\s+")
_OPENS = re.compile(rb"\s*/\*M?!\d*\s+")
_DEFINER = re.compile(rb"\bDEFINER\s*=\s*(" + _PART + rb")(?:@(" + _PART + rb"))?")
_CLIENT = re.compile(rb"\bSET\s+character_set_client\s*=\s*(\w+)", re.I)
_COLLATION = re.compile(rb"\bSET\s+collation_connection\s*=\s*(\w+)", re.I)
_RIGHTS = ("(1142)", "(1143)", "(1356)", "(1370)", "(1449)")
"""No right to a table, a column; invalid, or somebody has no right; no right to a function; no such definer."""
_UNKNOWN = ("(1146)", "(1356)")


def renamed(text: bytes, was: str, to: str | None) -> bytes:
    """A view's text with ``was`` replaced by ``to`` wherever it stands for a database; ``None`` leaves it out."""
    own = quoted(was).encode()
    if own + b"." not in text:
        return text
    chains = [found["chain"] for found in _WORDS.finditer(text) if found["chain"]]
    shortest = 3 if own in chains else 2  # `was` is also a table or an alias: `was`.`a` may be its column
    instead = b"" if to is None else quoted(to).encode() + b"."

    def changed(found: re.Match[bytes]) -> bytes:
        chain = found["chain"]
        if not chain or not chain.startswith(own + b".") or len(re.findall(_PART, chain)) < shortest:
            return found[0]
        return instead + chain[len(own) + 1 :]

    return _WORDS.sub(changed, text)


def without_own_name(text: str, database: str) -> str:
    """The same, where texts are compared."""
    return renamed(text.encode("utf-8", "surrogateescape"), database, None).decode("utf-8", "surrogateescape")


def as_shown(statement: bytes) -> bytes:
    """A dump's CREATE VIEW, in its version comments, as SHOW CREATE VIEW has it."""
    opens = _OPENS.match(statement)
    if not opens:
        return statement.strip()
    return _COMMENTS.sub(b" ", statement[opens.end() :]).rstrip().removesuffix(b"*/").rstrip()


def definer_of(text: bytes) -> str:
    """``app@%``, as information_schema writes it; empty where the text names none."""
    found = _DEFINER.search(text)
    return f"{unquote(found[1])}@{unquote(found[2]) if found[2] else ''}" if found else ""


def settings_of(statements: bytes) -> tuple[str, str]:
    """Character set and collation that a dump's statements make a view under."""
    charset, collation = _CLIENT.search(statements), _COLLATION.search(statements)
    return (charset[1].decode() if charset else "utf8mb4", collation[1].decode() if collation else "utf8mb4_general_ci")


def lacks_rights(reason: str) -> bool:
    """Is it the rights of a definer, and not those of whoever makes the view, that this error is about?"""
    return any(number in reason for number in _RIGHTS) and "CREATE VIEW command denied" not in reason


def for_lack_of_rights(texts: Mapping[str, bytes], reasons: Mapping[str, str]) -> set[str]:
    """Of views that could not be made, those whose definers are missing or have no rights here, and the views
    upon them.

    Args:
        texts: By name: the statement.
        reasons: By name: what the server said.
    """
    found = {name for name in texts if lacks_rights(reasons[name])}
    while True:
        names = [quoted(name).encode() for name in found]
        more = {
            name for name, text in texts.items()
            if name not in found and any(each in reasons[name] for each in _UNKNOWN) and any(n in text for n in names)
        }  # fmt: skip
        if not more:
            return found
        found |= more

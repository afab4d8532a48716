"""Queries that people write into a site file: which of them are refused before any server sees them.

What passes here is run in a transaction that only reads; what would write after all fails there.
"""

from __future__ import annotations

import re

_READS = ("SELECT", "WITH", "SHOW", "TABLE", "VALUES")
_HIDDEN = re.compile(
    r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|--[^\n]*|#[^\n]*|/\*(?!!|M!).*?\*/", re.S
)
"""Strings, quoted names and comments; not the comments that MySQL runs."""
_WRITES = re.compile(r"\bINTO\b|\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE)\b|\bLOCK\s+IN\b|\bNEXTVAL\b|\bSETVAL\b", re.I)
_WITHIN = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|REPLACE|TRUNCATE)\s+(?:INTO|FROM|ONLY|[\w\"`.]+\s+SET)\b", re.I)
_RUN_COMMENT = re.compile(r"/\*M?!")


def refusal(query: str) -> str:
    """Why it cannot be a query that only reads, as the end of a sentence; empty where nothing speaks against it."""
    bare = _HIDDEN.sub(" ' ", query).strip().rstrip(";").strip()
    word = re.match(r"\(*\s*([A-Za-z]+)", bare)
    if not word or word[1].upper() not in _READS:
        return f"is not read-only: it must begin with {', '.join(_READS[:-1])} or {_READS[-1]}"
    if ";" in bare:
        return "is more than one statement; write each as a query of its own"
    if _RUN_COMMENT.search(bare):
        return "holds a comment that MySQL runs; write it without"
    if _WRITES.search(bare) or _WITHIN.search(bare):
        return "is not read-only: it writes, locks, or draws from a sequence"
    return ""

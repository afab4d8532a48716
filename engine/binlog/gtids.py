"""Sets of executed transactions, as servers write them. Pure."""

from __future__ import annotations

import re


def holds(executed: str, gtid: str) -> bool:
    """Is a transaction in a set? MariaDB's lists name the last one of each domain and server: earlier ones are in.

    Args:
        executed: ``0-1-5,1-2-9``, or ``uuid:1-5:7,uuid:tag:1``.
        gtid: ``0-1-3``, ``uuid:4`` or ``uuid:tag:1``.
    """
    wanted = gtid.replace(" ", "").lower()
    sets = [each for each in executed.replace(" ", "").replace("\n", "").lower().split(",") if each]
    if ":" not in wanted:
        place, _, number = wanted.rpartition("-")
        return any(each.rpartition("-")[0] == place and int(each.rpartition("-")[2]) >= int(number) for each in sets)
    place, _, number = wanted.rpartition(":")
    return any(name == place and low <= int(number) <= high for name, low, high in _intervals(sets))


def lacks(executed: str, before: str, last: str) -> str:
    """What of an earlier log the next one's set of executed transactions lacks; empty where it holds it all.

    Args:
        executed: What a log says was executed before it.
        before: What the earlier log says was executed before itself.
        last: The GTID of the earlier log's last transaction; empty where it has none.
    """
    earlier = _split(before)
    if ":" not in f"{before}{last}":
        # a sequence may be set back by hand: of a domain the last transaction counts, where there is one
        domain = last.partition("-")[0]
        earlier = [each for each in earlier if each.partition("-")[0] != domain] + _split(last)
        reached = _reached(_split(executed))
        return next((each for each, at in ((each, _domain(each)) for each in earlier)
                     if reached.get(at[0], -1) < at[1]), "")  # fmt: skip
    there = _intervals(_split(executed))
    for name, low, high in _intervals(earlier) + _intervals(_split(last)):
        if not any(own == name and first <= low and high <= end for own, first, end in there):
            return f"{name}:{low}" if low == high else f"{name}:{low}-{high}"
    return ""


def is_gtid(text: str) -> bool:
    """Is this of the form of either flavour?"""
    head, _, number = text.strip().rpartition(":" if ":" in text else "-")
    parts = head.split("-") if ":" not in text else [head]
    return bool(head) and number.isdigit() and (":" in text or (len(parts) == 2 and all(map(str.isdigit, parts))))


def _split(text: str) -> list[str]:
    return [each for each in re.sub(r"\s", "", text).lower().split(",") if each]


def _domain(gtid: str) -> tuple[str, int]:
    return gtid.partition("-")[0], int(gtid.rpartition("-")[2])


def _reached(sets: list[str]) -> dict[str, int]:
    """MariaDB: the highest sequence number of each domain."""
    found: dict[str, int] = {}
    for domain, number in map(_domain, sets):
        found[domain] = max(number, found.get(domain, 0))
    return found


def _intervals(sets: list[str]) -> list[tuple[str, int, int]]:
    found = []
    for each in sets:
        source, *parts = each.split(":")
        name = source
        for part in parts:
            low, _, high = part.partition("-")
            if low.isdigit():
                found.append((name, int(low), int(high or low)))
            else:
                name = f"{source}:{part}"  # a tag; what follows is of it
    return found

"""Sets of executed transactions, as servers write them. Pure."""

from __future__ import annotations


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


def is_gtid(text: str) -> bool:
    """Is this of the form of either flavour?"""
    head, _, number = text.strip().rpartition(":" if ":" in text else "-")
    parts = head.split("-") if ":" not in text else [head]
    return bool(head) and number.isdigit() and (":" in text or (len(parts) == 2 and all(map(str.isdigit, parts))))


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

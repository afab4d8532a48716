"""Saved Docker images are kept while a kept record of containers needs them."""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.retention.judge import Evidence, Item, is_good

YOUNG = timedelta(days=2)
"""An image is stored before the record that needs it: one that is new may be waiting for that."""


def judge_images(
    images: list[Item], kept_records: list[Item], now: datetime, evidence: Evidence
) -> tuple[dict[str, str], dict[str, str]]:
    """What is kept and what goes, by key, with the reasons.

    Args:
        images: Saved images of all sources.
        kept_records: What is kept otherwise, records of containers among it.
    """
    kept: dict[str, str] = {}
    gone: dict[str, str] = {}
    for source in dict.fromkeys(str(each.source) for each in images):
        own = sorted((each for each in images if each.source == source), key=_newest_first)
        records = [each for each in kept_records if each.source == source]
        needed = [evidence.images(each) for each in records]
        unsure = not records or any(each is None for each in needed)
        wanted = {name for each in needed if each is not None for name in each}
        for item in own:
            reason = _why_kept(item, wanted, unsure, own, now, evidence)
            if reason:
                kept[item.key] = reason
            elif item.name in wanted:
                gone[item.key] = "the same image is stored again, and newer"
            else:
                gone[item.key] = "no record of containers that is kept needs this image"
    return kept, gone


def _why_kept(item: Item, wanted: set[str], unsure: bool, own: list[Item], now: datetime, evidence: Evidence) -> str:
    """Empty where nothing keeps it."""
    if item.pinned:
        return "pinned by a person"
    if unsure:
        return "not every record of containers can be read here, so nobody can tell whether it is needed"
    if item.name in wanted:
        good = next((each for each in own if each.name == item.name and is_good(each, evidence)), None)
        if good is None or good is item:
            return "a record of containers that is kept needs this image"
        return ""
    return "stored lately" if now - item.taken_at <= YOUNG else ""


def _newest_first(item: Item) -> tuple[float, str]:
    return -item.taken_at.timestamp(), item.key

"""Which backups a replica still wants: what retention would take away there again is not copied to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from engine import marks, names
from engine.catalog import Entry
from engine.errors import BackupError
from engine.logs import LogFile
from engine.prune.contents import EXPIRED, Claims, Contents, SignedEvidence, claims_of, contents, item_of
from engine.recovery.window import Anchor
from engine.retention.judge import Item, judge
from engine.retention.policy import MANUAL, PRE_DEPLOYMENT, Policy
from engine.vault import LOCAL, Vault
from engine.verdicts import condemned, word_of


def worth_copying(vault: Vault, replica: str, lacking: list[Entry], policy: Policy) -> list[Entry]:
    """Of the local backups that a replica lacks those that it would keep, in the same order.

    What is younger than its tier allows is wanted without a further look, unless it was found broken by what it holds.
    Anything older is judged as if it stood in the replica already; what is marked as expired here is not copied.

    Raises:
        What the stores raise.
    """
    lacking = _worth_having(vault, lacking)
    old = [each for each in lacking if not _is_young(vault, each, policy)]
    if not old:
        return lacking
    marked = {each.key for each in old if claims_of(vault, each).expired == EXPIRED}
    asked = [each for each in old if each.key not in marked]
    unwanted = marked | (_refused(vault, replica, asked, policy) if asked else set())
    return [each for each in lacking if each.key not in unwanted]


def _worth_having(vault: Vault, lacking: list[Entry]) -> list[Entry]:
    """Without what was encrypted anew: of that the new one is copied. And without what is wrong in its content: a copy
    of it would be no better. What only got damaged here is tried: its copy fails, and says so."""
    claims = {each.key: Claims() for each in lacking}
    for mark in marks.named(vault.store(LOCAL), vault.layout(LOCAL)):
        if mark.of in claims:
            claims[mark.of].add(mark)
    return [
        each
        for each in lacking
        if not claims[each.key].superseded and not (claims[each.key].claim == "broken" and _is_wrong(vault, each))
    ]


def _is_wrong(vault: Vault, entry: Entry) -> bool:
    """Do its signed marks say so? What cannot be read says nothing."""
    try:
        return condemned([word_of(vault.marks(entry))])
    except BackupError:
        return False


def _is_young(vault: Vault, entry: Entry, policy: Policy) -> bool:
    if entry.source is None or entry.tier is None:
        return True
    if entry.tier in (PRE_DEPLOYMENT, MANUAL):  # a word may say that these go, not their age
        said = claims_of(vault, entry)
        if said.released or said.limited:
            return False
    rule = policy.of(entry.source, entry.tier)
    return rule.forever or (rule.age is not None and names.now() - entry.name.taken_at <= rule.age)


def _refused(vault: Vault, replica: str, asked: list[Entry], policy: Policy) -> set[str]:
    """Keys (local) of what the replica would not keep."""
    there = contents(vault, replica)
    here = Contents(LOCAL, {each.key: each for each in asked})
    items = {each.key: item_of(each, claims_of(vault, each)) for each in asked}
    evidence = _Both(SignedEvidence(vault, there), SignedEvidence(vault, here), frozenset(items))
    both = [each for each in there.items if each.key not in items] + list(items.values())
    made = judge(both, policy, now=names.now(), evidence=evidence)
    return {each.item.key for each in made if not each.keep and each.item.key in items}


class _Both:
    """The evidence of the replica, and for what is still to be copied that of the local root."""

    def __init__(self, there: SignedEvidence, here: SignedEvidence, local: frozenset[str]) -> None:
        self._there, self._here, self._local = there, here, local

    def _of(self, item: Item) -> SignedEvidence:
        return self._here if item.key in self._local else self._there

    def proven(self, item: Item) -> bool:
        return self._of(item).proven(item)

    def released(self, item: Item) -> bool:
        return self._of(item).released(item)

    def keep_until(self, item: Item) -> datetime | None:
        return self._of(item).keep_until(item)

    def replaced(self, item: Item) -> str:
        return self._of(item).replaced(item)

    def point(self, item: Item) -> str:
        return self._of(item).point(item)

    def parts(self, item: Item) -> frozenset[tuple[str, str]]:
        return self._of(item).parts(item)

    def images(self, item: Item) -> frozenset[str] | None:
        return self._of(item).images(item)

    def anchor(self, item: Item) -> Anchor | None:
        return self._of(item).anchor(item)

    def logs(self, items: list[Item]) -> Mapping[str, LogFile]:
        local = [each for each in items if each.key in self._local]
        other = [each for each in items if each.key not in self._local]
        return {**self._there.logs(other), **self._here.logs(local)}

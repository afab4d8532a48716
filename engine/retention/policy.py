"""How long each tier of each source is kept: rules as people write them, and what is refused about them.

A rule is an age (``24h``, ``30d``, ``13w``, ``12m``, ``2y``), a count of good backups (``12``), several of these
(``13 or 90d``: what any of them keeps is kept), or ``forever``. A month counts as 31 days and a year as 366, so
that neither ever means less than the calendar's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from engine import names

FOREVER = "forever"
PRE_DEPLOYMENT, MANUAL = "pre-deployment", "manual"
DEFAULTS = {
    "hourly": "24h",
    "daily": "30d",
    "weekly": "13 or 90d",
    "monthly": "12",
    PRE_DEPLOYMENT: FOREVER,
    MANUAL: FOREVER,
    names.SAFETY: "30d",
    names.RECOVERED: "7d",
    names.BINLOGS: "7d",
    names.WAL: "7d",
}
"""By tier, where a site says nothing; base backups as the WAL. A snapshot before a deployment goes by being
released, not by age."""
CONFIG_FILES, CONFIG_DEFAULT = "config", "90d"
"""Configuration files are small, and asked for long after. In an archive they stay with the machine that they are a
part of."""
PERIODS = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(weeks=1),
    "monthly": timedelta(days=28),
}
"""How often the scheduled tiers are made."""
SYNTAX = "an age such as 24h, 30d, 13w or 12m, a count such as 12, several (13 or 90d), or forever"

_HOURS = {"h": 1, "d": 24, "w": 168, "m": 31 * 24, "y": 366 * 24}
_AGE = re.compile(r"^([1-9]\d{0,5})\s*([hdwmy])$")
_COUNT = re.compile(r"^[1-9]\d{0,5}$")


@dataclass(frozen=True)
class Rule:
    """How long backups of one kind are kept: while younger than ``age``, or among the newest ``count`` good ones.

    With neither, for ever.
    """

    text: str
    age: timedelta | None = None
    count: int = 0

    @property
    def forever(self) -> bool:
        return self.age is None and not self.count

    def reach(self, period: timedelta) -> timedelta:
        """How far back it keeps backups that are made once a period."""
        return timedelta.max if self.forever else max(self.age or timedelta(0), self.count * period)


_LONGEST = 100 * 366 * 24
"""Hours: what is added to a date or taken from it must stay a date."""


def parse(text: str) -> Rule:
    """A rule as a person wrote it.

    Raises:
        ValueError: It is none; says what one looks like.
    """
    cleaned = " ".join(text.split())
    if cleaned == FOREVER:
        return Rule(FOREVER)
    age, count = timedelta(0), 0
    for part in re.split(r"\s*,\s*|\s+or\s+", cleaned):
        if found := _AGE.match(part):
            hours = int(found[1]) * _HOURS[found[2]]
            if hours > _LONGEST:
                raise ValueError(f"must be at most 100 years; {text!r} is more. For ever is written: {FOREVER}")
            age = max(age, timedelta(hours=hours))
        elif _COUNT.match(part):
            count = max(count, int(part))
        else:
            nothing = " A rule that keeps nothing is refused." if re.match(r"^0+\s*[a-z]?$", part) else ""
            raise ValueError(f"must be {SYNTAX}; {text!r} is not.{nothing}")
    return Rule(cleaned, age or None, count)


def readable(rules: dict[str, str], where: str) -> dict[str, str]:
    """The same rules. Raises ValueError that names the one that cannot be read; ``where`` is what the setting is
    called."""
    for key, rule in rules.items():
        try:
            parse(rule)
        except ValueError as error:
            raise ValueError(f"{where}.{key} {error}") from None
    return rules


class Policy:
    """The rules of one site, in one place.

    Args:
        given: As in the site file, by ``source/tier``, ``source/*``, tier, or ``*`` (which leaves manual backups and
            those before a deployment alone); the most exact one wins, and the defaults fill in.
        files: Names of the sources that are configuration files.
        there: What the place has of its own, in the same form; it comes before all of ``given``.

    Raises:
        ValueError: A rule cannot be read.
    """

    def __init__(
        self, given: Mapping[str, str] | None = None, files: Iterable[str] = (CONFIG_FILES,),
        there: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self._given = [{key: parse(text) for key, text in (rules or {}).items()} for rules in (there, given)]
        self._files = frozenset(files)
        self._known: dict[tuple[str, str], Rule] = {}

    def of(self, source: str, tier: str) -> Rule:
        """The rule for a tier of a source."""
        known = self._known.get((source, tier))
        if known is None:
            known = self._known[source, tier] = self._find(source, tier)
        return known

    def says(self, source: str, tier: str) -> bool:
        """Does the site itself say something of this tier?"""
        return any(key in rules for rules in self._given for key in (f"{source}/{tier}", f"{source}/*", tier))

    def _find(self, source: str, tier: str) -> Rule:
        keys = [f"{source}/{tier}", f"{source}/*", tier, "*"]
        if tier in (MANUAL, PRE_DEPLOYMENT):
            keys = [f"{source}/{tier}", tier]
        for rules in self._given:
            for key in keys:
                if key in rules:
                    return rules[key]
        if tier == names.BASE:  # as long as there is WAL to replay on it
            return self.of(source, names.WAL)
        if source in self._files and tier in PERIODS and tier not in names.ARCHIVES:
            return parse(CONFIG_DEFAULT)
        return parse(DEFAULTS.get(tier, FOREVER))


def refusals(
    given: Mapping[str, str], sources: Iterable[tuple[str, str]], there: Mapping[str, str] | None = None,
    where: str = "vault.retention",
) -> list[str]:  # fmt: skip
    """Why a policy cannot be taken, in words.

    Args:
        given: As for ``Policy``; every rule of it can be read.
        sources: Name and log tier (``binlogs``, ``wal``, or empty where no logs are shipped) of each source.
        there: As for ``Policy``; then only what these rules bring with them is told.
        where: What the setting is called.
    """
    policy = Policy(given, there=there)
    told = []
    sources = list(sources)
    rules = given if there is None else there
    for key in rules:
        source, slash, tier = key.rpartition("/")
        if slash and source not in {name for name, _ in sources}:
            told.append(f"{where}.{key} names no source of this site")
            continue
        if not tier:
            told.append(f"{where}.{key} names no tier; all tiers of a source are meant by {source}/*")
        period = PERIODS.get(tier)
        if period is not None and policy.of(source, tier).reach(period) < period:
            told.append(
                f"{where}.{key} is {rules[key]}, but such a backup is made once in {_said(period)}: "
                f"most of the time there would be none; keep at least {_said(period)}"
            )
        if tier == "*" and _leaves_none(
            policy, parse(rules[key]), [source] if source else [name for name, _ in sources]
        ):
            told.append(
                f"{where}.{key} is {rules[key]}, for backups that are made once a day, too: most of the time there "
                "would be none; keep at least 24h, or name the tiers that are meant, such as hourly"
            )
    for name, logs in sources:
        told += _window(policy, name, logs, where) if logs else []
    return list(dict.fromkeys(told))


def _leaves_none(policy: Policy, rule: Rule, sources: list[str]) -> bool:
    """Does a rule for all tiers decide on one that is made once a day or less often, for less than a day?"""
    day = PERIODS["daily"]
    seldom = [tier for tier, period in PERIODS.items() if period >= day]
    decided = [tier for tier in seldom for source in sources or [""] if policy.of(source, tier) == rule]
    return any(rule.reach(PERIODS[tier]) < day for tier in decided)


def _window(policy: Policy, source: str, logs: str, where: str) -> list[str]:
    """A log is of use only with a full (or base) from before it."""
    rule = policy.of(source, logs)
    if rule.count:
        return [f"{where} of {logs} must be an age, such as 7d, or forever: logs are not kept by count"]
    if rule.age is None:
        return []
    if logs == names.WAL:
        tiers, what, advised = {names.BASE: PERIODS["daily"]}, "base backup", names.BASE
    else:
        often = ("hourly", "daily")
        tiers = {tier: period for tier, period in PERIODS.items() if tier in often or policy.says(source, tier)}
        what, advised = "full backup", "daily"
    longest = max(tiers, key=lambda tier: policy.of(source, tier).reach(tiers[tier]))
    if policy.of(source, longest).reach(tiers[longest]) >= rule.age:
        return []
    return [
        f"{where} keeps the logs of {source} ({logs}) for {rule.text}, but no {what} for that long (the "
        f"longest: {longest} {policy.of(source, longest).text}): a log is of use only with one from before it. "
        f"Keep {advised} for at least {rule.text}, or {logs} for less"
    ]


def _said(period: timedelta) -> str:
    hours = int(period.total_seconds()) // 3600
    return f"{hours}h" if hours < 24 else f"{hours // 24}d"

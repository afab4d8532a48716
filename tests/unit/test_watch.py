"""The watch's judgement: limits, levels, trends, and that each finding is told once when it comes and once when it
goes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from typer.main import get_command

from deployments.cli.main import app
from deployments.cli.watching import first_line
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.names import BackupName
from engine.site import Target
from engine.status import StatusRow
from engine.watch import judge, metrics, remember, words
from engine.watch.advice import advice
from engine.watch.findings import CONDITIONS, OF_RUNS, Finding, Level, Look, Setback, above, ordered, worst
from engine.watch.judge import DiskUse
from engine.watch.remember import Change, Memory, Standing, Turn, memory, recall
from engine.watch_config import WatchConfig

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEVELS = st.sampled_from(list(Level))


def limits(**given: object) -> WatchConfig:
    return WatchConfig.model_validate(given)


def finding(
    level: Level, about: str = "mysql/app", condition: str = "backup-age", value: float | None = None
) -> Finding:
    return Finding(condition, about, level, f"{about} is {level.word}", value, "s" if value is not None else "", 10, 20)


def looked(*findings: Finding) -> Look:
    return Look("shop", ordered(findings))


@pytest.mark.parametrize(
    ("value", "level"), [(10, Level.OK), (10.1, Level.WARNING), (20, Level.WARNING), (20.1, Level.CRITICAL)]
)
def test_beyond_a_limit_is_a_warning_and_beyond_twice_as_much_critical(value: float, level: Level) -> None:
    assert above(value, 10) is level


def test_the_most_exact_age_counts() -> None:
    ages = limits(age={"mysql": "2h", "mysql/app": "30m"})
    assert [ages.age_of(*each) for each in (("mysql", "app"), ("mysql", "crm"), ("postgres", "x"))] == [
        1800, 7200, 26 * 3600,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"age": {"mysql": "soon"}}, "watch.age.mysql is no span of time"),
        ({"logs": "0m"}, "watch.logs is no span of time"),
        ({"ping": "ftp://example.invalid/FAKE"}, "watch.ping is no address"),
        ({"age": {"mysq": "2h"}}, "watch.age.mysq names no source of the site; there are: mysql"),
        ({"age": {"mysq@daily": "2h"}}, "watch.age.mysq@daily names no source of the site; there are: mysql"),
        ({"age": {"mysql@nightly": "2h"}}, "names no tier of backups behind its @; there are: hourly, daily, weekly"),
        ({"age": {"mysql@wal": "2h"}}, "names no tier of backups behind its @"),
        ({"verified": "often"}, "watch.verified is no span of time"),
        ({"disk": 100}, "less than or equal to 99"),
        ({"metrics": "backups.prom"}, "watch.metrics is no absolute path of a file"),
    ],
)
def test_a_wrong_setting_is_refused_and_no_secret_is_shown(given: dict[str, object], says: str) -> None:
    site = {"site": "shop", "vault": {"root": "/x"}, "mysql": {"databases": ["app"]}, "watch": given}
    with pytest.raises(ValidationError) as refused:
        SiteConfig.model_validate(site)
    told = str(refused.value.errors(include_input=False, include_url=False)[0]["msg"])
    assert says in told and "FAKE" not in told


@pytest.mark.parametrize(("logs", "minutes"), [("75m", 60), ("3h", 60), ("30m", 15), ("15m", 7.5)])
def test_behind_an_open_transaction_logs_are_closed_so_often_that_their_limit_holds(logs: str, minutes: float) -> None:
    assert limits(logs=logs).idle == timedelta(minutes=minutes)


def test_an_age_in_the_future_is_never_well() -> None:
    """A backup that was dated by a wrong clock looks young for as long as that was ahead."""
    name = BackupName(NOW, "app", "sql.gz.enc")
    entry = Entry("local", f"shop/mysql/daily/{name.file}", name, "mysql", "daily", 100)

    def level(age: timedelta, *ahead: str) -> Level:
        row = StatusRow(
            Target("mysql", "app"), entry, "daily", age.total_seconds(), True, ["local"], {}, ahead=list(ahead)
        )
        found = judge.backups(row, limits())[0]
        assert ("clock" in found.said) == (found.level is not Level.OK and age < 26 * HOUR)
        return found.level

    assert [level(HOUR), level(-timedelta(minutes=4)), level(-365 * DAY)] == [Level.OK, Level.OK, Level.CRITICAL]
    assert level(HOUR, "app_20271122_120000.sql.gz.enc") is Level.WARNING
    assert judge.recovery_point("mysql/app", NOW + DAY, NOW, limits()).level is Level.WARNING
    assert judge.drill(Target("mysql", "app"), NOW + DAY, NOW - DAY, NOW, limits()).level is Level.WARNING
    assert judge.copies("s3", [NOW + DAY], NOW, limits()).level is Level.WARNING


@given(st.lists(LEVELS, max_size=8))
def test_the_worst_level_is_critical_before_warning_before_unknown(levels: list[Level]) -> None:
    found = worst(levels)
    assert found in (levels or [Level.OK])
    for level in (Level.CRITICAL, Level.WARNING, Level.UNKNOWN):
        if level in levels:
            assert found is level
            break


@given(st.lists(st.dictionaries(st.sampled_from("abc"), LEVELS), min_size=1, max_size=12))
def test_whatever_happens_each_finding_is_told_once_when_it_comes_and_once_when_it_goes(
    looks: list[dict[str, Level]],
) -> None:
    known = Memory()
    open_: set[str] = set()
    for number, levels in enumerate(looks):
        look = looked(*(finding(level, name) for name, level in levels.items()))
        changes = known.take_in(look, NOW + number * HOUR, None)
        for change in changes:
            name = change.finding.about
            if change.turn == "raised":
                assert name not in open_ and levels[name] is not Level.OK
                open_.add(name)
            elif change.turn == "resolved":
                assert name in open_ and levels.get(name, Level.OK) is Level.OK
                open_.remove(name)
            else:
                assert name in open_
        assert len({change.finding.id for change in changes}) == len(changes), "one word a look"
        assert open_ == {name for name, level in levels.items() if level is not Level.OK}
        assert known.take_in(look, NOW, None) == [], "the same again is told to nobody"


def test_ages_of_tiers_are_apart_and_the_most_exact_counts() -> None:
    ages = limits(age={"*@weekly": "8d", "mysql": "2h", "mysql@daily": "26h", "mysql/app@daily": "30h"})
    assert ages.ages_of_tiers("mysql", "app") == {"weekly": 8 * 86400, "daily": 30 * 3600}
    assert ages.ages_of_tiers("mysql", "crm") == {"weekly": 8 * 86400, "daily": 26 * 3600}
    assert ages.ages_of_tiers("postgres", "x") == {"weekly": 8 * 86400} and ages.age_of("mysql", "app") == 7200


def test_an_hourly_backup_does_not_hide_that_the_daily_one_stays_out() -> None:
    target, name = Target("mysql", "app"), BackupName(NOW, "app", "sql.gz.enc")
    entry = Entry("local", f"shop/mysql/daily/{name.file}", name, "mysql", "daily", 100)

    def row(newest: Entry | None, age: timedelta = HOUR) -> StatusRow:
        since = NOW - 9 * DAY
        return StatusRow(target, newest, "daily", age.total_seconds(), True, ["local"], {}, since=since)

    def judged(daily: StatusRow) -> Finding:
        found = judge.of_tier(row(entry), daily, "daily", 26 * 3600, NOW)
        assert found is not None and found.id == "backup-age/mysql/app@daily"
        return found

    assert [judged(row(entry, each)).level for each in (HOUR, 30 * HOUR, 60 * HOUR)] == [
        Level.OK, Level.WARNING, Level.CRITICAL,
    ]  # fmt: skip
    none = judged(row(None))
    assert none.level is Level.CRITICAL and "no good daily backup; there are others since 9 days" in none.said
    nothing = StatusRow(target, None, "", 0.0, None, [], {})
    assert judge.of_tier(nothing, nothing, "daily", 60, NOW) is None, "that there is none at all is told by itself"


def test_what_is_remembered_outlives_the_process_and_a_damaged_file_costs_one_repetition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    bad = looked(finding(Level.CRITICAL))
    with memory(tmp_path) as known:
        assert [each.turn for each in known.take_in(bad, NOW, DiskUse(NOW, 1, 2))] == ["raised"]
    with memory(tmp_path) as known:
        assert known.take_in(bad, NOW + HOUR, DiskUse(NOW + HOUR, 2, 4)) == []
        assert [each.used for each in known.disk] == [1, 2]
    critical = Standing(Level.CRITICAL, NOW, frozenset({Level.CRITICAL}))
    assert recall(tmp_path).raised == {"backup-age/mysql/app": critical}
    (tmp_path / "watch.json").write_text("{")
    with memory(tmp_path) as known:
        assert [each.turn for each in known.take_in(bad, NOW, None)] == ["raised"]


def test_a_disk_that_is_full_or_not_mounted_does_not_make_the_watch_tell_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just that disk would have kept what was told."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "own"))
    state, bad = tmp_path / "vault" / "shop", looked(finding(Level.CRITICAL))

    def turns(look: Look, hour: int) -> list[str]:
        with memory(state) as known:
            return [each.turn for each in known.take_in(look, NOW + hour * HOUR, None)]

    assert [turns(bad, hour) for hour in (0, 1, 2)] == [["raised"], [], []]
    (spare,) = (tmp_path / "own").rglob("*.json")
    assert spare.stat().st_mode & 0o777 == 0o600
    state.mkdir(parents=True)  # it is mounted again
    assert turns(bad, 3) == [] and not spare.exists() and recall(state).raised
    assert turns(looked(finding(Level.OK)), 4) == ["resolved"]


def test_a_watch_that_hangs_with_the_memory_in_its_hands_does_not_silence_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remember, "_PATIENCE", 0.3)
    with memory(tmp_path):
        with memory(tmp_path) as known:
            assert known.take_in(looked(finding(Level.CRITICAL)), NOW, None)
        assert recall(tmp_path).raised


def test_what_cannot_be_asked_for_two_days_is_critical_and_told_again() -> None:
    known, gone = Memory(), looked(finding(Level.UNKNOWN, "s3", "copies"))

    def turns(look: Look, hours: int) -> list[tuple[str, Level]]:
        at = NOW + hours * HOUR
        return [(each.turn, each.finding.level) for each in known.take_in(known.hardened(look, at), at, None)]

    assert turns(gone, 0) == [("raised", Level.UNKNOWN)] and turns(gone, 47) == []
    assert turns(gone, 49) == [("worse", Level.CRITICAL)] and turns(gone, 50) == []
    assert turns(looked(finding(Level.OK, "s3", "copies")), 51) == [("resolved", Level.OK)]


def test_a_clock_that_was_ahead_does_not_end_the_trend_of_the_disk() -> None:
    known = Memory(disk=[DiskUse(NOW - DAY, 1, 9), DiskUse(NOW + 3650 * DAY, 2, 9)])
    known.take_in(looked(), NOW, DiskUse(NOW, 3, 9))
    assert [each.used for each in known.disk] == [1, 3]


def ran(level: Level, *keys: str) -> Look:
    ended = tuple(Setback(key, NOW - (9 - number) * HOUR / 12, f"owl-{key} failed") for number, key in enumerate(keys))
    return looked(Finding("run", "wal-ship", level, "a run of wal-ship", setbacks=ended, again=NOW))


def test_runs_that_failed_between_two_looks_are_told_once_however_often_they_are_seen() -> None:
    known = Memory()

    def turns(level: Level, *keys: str) -> list[str]:
        return [f"{each.turn}: {each.finding.said}" for each in known.take_in(ran(level, *keys), NOW, None)]

    assert turns(Level.OK, "a") == [], "what was before the first look of all is told to nobody"
    one = turns(Level.OK, "a", "b")
    assert one == ["passed: wal-ship: at 2026-11-22 11:20 UTC owl-b failed; it succeeded again at 2026-11-22 12:00 UTC"]
    assert turns(Level.OK, "a", "b") == []
    (many,) = turns(Level.OK, *map(str, range(99)))
    assert many.startswith("passed: wal-ship: 99 of its runs failed or crashed between 2026-11-22 11:15 and ")
    assert turns(Level.CRITICAL, "x") == ["raised: a run of wal-ship"] and turns(Level.CRITICAL, "x", "y") == []
    (over,) = turns(Level.OK, "x", "y", "z")
    assert over == "resolved: a run of wal-ship; since the look before 1 more failed or crashed"
    assert turns(Level.OK, "x", "y", "z") == []


def test_what_is_over_is_kept_for_two_months_with_what_was_wrong_and_silences_of_the_watch(tmp_path: Path) -> None:
    with memory(tmp_path) as known:
        known.take_in(looked(finding(Level.WARNING)), NOW, None)
        known.take_in(looked(finding(Level.CRITICAL)), NOW + HOUR / 4, None)
    with memory(tmp_path) as known:
        known.take_in(looked(finding(Level.OK)), NOW + HOUR / 2, None)
        known.take_in(ran(Level.OK, "a"), NOW + HOUR, None)
        known.take_in(looked(), NOW + DAY, None)
    told = [(each.id, each.level, each.since, each.until, each.said) for each in recall(tmp_path).over]
    assert told[0] == (
        "backup-age/mysql/app", Level.CRITICAL, NOW, NOW + HOUR / 2, "mysql/app is critical",
    )  # fmt: skip
    assert told[1][:2] == ("run/wal-ship", Level.WARNING) and "owl-a failed; it succeeded again" in told[1][4]
    assert told[2] == ("silence/watch", Level.CRITICAL, NOW + HOUR, NOW + DAY, "the watch did not look")
    assert len(told) == 3
    for number in range(600):
        known.take_in(ran(Level.OK, f"b{number}"), NOW + DAY, None)
    assert len(known.over) == 500
    known.take_in(looked(), NOW + 62 * DAY, None)
    assert [each.id for each in known.over] == ["silence/watch"]


def test_what_an_older_release_remembered_is_read(tmp_path: Path) -> None:
    old = {"raised": {"disk/local": ["warning", NOW.isoformat(), ["warning"]]}, "disk": [], "untold": {}}
    (tmp_path / "watch.json").write_text(json.dumps({**old, "looked_at": NOW.isoformat()}))
    found = recall(tmp_path)
    assert found.raised["disk/local"].level is Level.WARNING and found.runs_seen == NOW and found.over == []


def test_a_watch_that_could_not_ask_the_server_asks_for_the_runs_of_that_time_later(tmp_path: Path) -> None:
    with memory(tmp_path) as known:
        known.take_in(ran(Level.OK), NOW, None)
    with memory(tmp_path) as known:
        known.take_in(Look("shop", [], OF_RUNS), NOW + HOUR, None)
    assert recall(tmp_path).runs_seen == NOW and recall(tmp_path).looked_at == NOW + HOUR
    with memory(tmp_path) as known:
        assert [each.turn for each in known.take_in(ran(Level.OK, "a"), NOW + DAY, None)] == ["passed"]
    assert recall(tmp_path).runs_told == ["a"] and recall(tmp_path).runs_seen == NOW + DAY


def test_a_failure_that_passed_is_a_short_warning_to_those_who_hear_of_warnings() -> None:
    known, untold = Memory(runs_seen=NOW), dict[str, list[tuple[str, str]]]()
    changes = known.take_in(ran(Level.OK, "a"), NOW, None)
    words.post(untold, "shop", changes, NOW, NOW, "#", [("night", ["critical"]), ("day", ["warning"])])
    assert untold == {"day": [("[warning] shop: run/wal-ship", f"WARNING run/wal-ship (over already): "
                                f"{changes[0].finding.said}.\nMore: #run")]}  # fmt: skip


def change(level: Level, *, turn: Turn = "raised", hours: int = 3, had: Iterable[Level] = ()) -> Change:
    return Change(turn, finding(level), NOW - hours * HOUR, frozenset({level, *had}))


def test_what_is_to_be_told_waits_by_address_and_goes_with_an_address_that_is_no_more() -> None:
    untold = {"own/shop-alert-gone": [("old", "old")], "own/shop-alert-night": [("before", "text")]}
    addresses = [("own/shop-alert-night", ["critical"]), ("own/shop-alert-ops", ["warning"])]
    words.post(untold, "shop", [change(Level.WARNING)], NOW - HOUR / 4, NOW, "https://x.invalid/#", addresses)
    assert {to: [subject for subject, _ in each] for to, each in untold.items()} == {
        "own/shop-alert-night": ["before"], "own/shop-alert-ops": ["[warning] shop: backup-age/mysql/app"],
    }  # fmt: skip
    words.post(untold, "shop", [], NOW - 2 * HOUR, NOW, "", addresses)
    assert untold["own/shop-alert-night"][1][0] == "[resolved] shop: the watch is back"
    for _ in range(60):
        words.post(untold, "shop", [change(Level.CRITICAL)], NOW, NOW, "", addresses)
    assert len(untold["own/shop-alert-night"]) == 50 and len(untold["own/shop-alert-ops"]) == 1


@pytest.mark.parametrize(
    ("level", "waiting", "failed", "told"),
    [
        (Level.OK, [], [], True),
        (Level.WARNING, ["day"], ["day"], False),
        (Level.WARNING, ["day", "night"], ["night"], True),
        (Level.CRITICAL, [], [], True),
        (Level.CRITICAL, ["day", "night"], ["night"], False),
        (Level.CRITICAL, ["day", "night"], ["day"], True),
    ],
)
def test_the_address_outside_hears_of_a_look_that_somebody_could_be_told_of(
    level: Level, waiting: list[str], failed: list[str], told: bool
) -> None:
    assert words.heard(level, [("night", ["critical"]), ("day", ["warning"])], waiting, failed) is told
    assert words.heard(level, [], [], []) is (level is not Level.CRITICAL)
    assert words.heard(level, [("day", ["warning"])], [], []) is (level is not Level.CRITICAL)


def test_a_message_says_what_since_when_what_is_safe_what_to_type_and_where_it_says_more() -> None:
    subject, text = words.message("shop", [change(Level.CRITICAL)], NOW, "https://wiki.invalid/backups#")
    assert subject == "[critical] shop: backup-age/mysql/app"
    assert text.splitlines() == [
        "CRITICAL backup-age/mysql/app: mysql/app is critical.",
        "Since: 2026-11-22 09:00 UTC (3 h 0 min)",
        "Safe: every backup that was made stays; the last good one is never removed",
        "Type: backups backup -f shop --source mysql --database app",
        "More: https://wiki.invalid/backups#backup-age",
    ]
    over = change(Level.OK, turn="resolved", had=[Level.CRITICAL])
    subject, text = words.message("shop", [over], NOW, "")
    assert subject == "[resolved] shop: backup-age/mysql/app"
    assert text.splitlines() == [
        "RESOLVED backup-age/mysql/app: mysql/app is ok.", "It lasted: 2026-11-22 09:00 UTC (3 h 0 min)",
    ]  # fmt: skip


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_has_an_advice_whose_command_is_one_of_ours(condition: str) -> None:
    for about in ("mysql/app", "mysql/app@daily", "last", "local", "it's; odd"):
        told = advice("shop", finding(Level.CRITICAL, about, condition))
        typed = shlex.split(told.command)
        assert told.safe and typed[0] in ("backups", "prefect") and "{" not in told.command
        if typed[0] == "backups":
            command: Any = get_command(app)
            for word in typed[1:]:
                if word in getattr(command, "commands", {}):
                    command = command.commands[word]
            options = {name for each in command.params for name in each.opts}
            assert not getattr(command, "commands", {}) and {each for each in typed if each[0] == "-"} <= options, typed


@given(st.lists(st.dictionaries(st.sampled_from("ab"), LEVELS), min_size=1, max_size=10))
def test_whatever_happens_what_a_route_is_told_to_begin_it_is_told_to_end(looks: list[dict[str, Level]]) -> None:
    known, told = Memory(), {"critical": dict[str, str](), "warning": dict[str, str]()}
    for number, levels in enumerate([*looks, {}]):
        look = looked(*(finding(level, name) for name, level in levels.items()))
        for each in known.take_in(look, NOW + number * HOUR, None):
            for route, standing in told.items():
                if words.concerns(each, [route]):
                    standing[each.finding.about] = each.turn
    assert all(turn == "resolved" for standing in told.values() for turn in standing.values())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "ops"}, "the alert 'ops' of kind webhook lacks url"),
        ({"name": "ops", "url": ""}, "the alert 'ops' of kind webhook lacks url"),
        ({"name": "ops", "kind": "pagerduty", "api_key": "FAKE"}, "of kind pagerduty lacks integration_key"),
        ({"name": "ops", "url": "hooks.invalid/FAKE"}, "is not of the form https://HOST/..."),
        ({"name": "ops", "url": "https://h.invalid/FAKE", "levels": ["panic"]}, "'warning' or 'critical'"),
        ({"name": "ops", "url": "https://h.invalid/FAKE", "levels": []}, "at least 1 item"),
    ],
)
def test_an_alert_without_an_address_or_with_an_unknown_level_is_refused_and_no_secret_is_shown(
    given: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        SiteConfig.model_validate({"site": "shop", "vault": {"root": "/x"}, "alerts": given})
    told = str(refused.value.errors(include_input=False, include_url=False)[0]["msg"])
    assert says in told and "FAKE" not in told


@given(st.integers(3, 60), st.integers(1, 10**9), st.integers(1, 400))
def test_a_disk_that_fills_evenly_is_full_on_the_day_it_says(samples: int, a_day: int, left: int) -> None:
    total = a_day * (samples + left)
    history = [DiskUse(NOW + number * DAY, a_day * (number + 1), total) for number in range(samples)]
    told = judge.days_until_full(history)
    assert told is not None and abs(told - left) < 1e-6 * left + 1e-6


def test_a_disk_that_empties_or_is_hardly_known_has_no_such_day() -> None:
    assert judge.days_until_full([DiskUse(NOW + number * DAY, 100 - number, 200) for number in range(9)]) is None
    assert judge.days_until_full([DiskUse(NOW + number * HOUR, number, 200) for number in range(9)]) is None
    assert judge.days_until_full([]) is None


def test_a_disk_is_judged_by_what_is_in_use_and_by_its_trend() -> None:
    def levels(used: int, *before: int) -> tuple[Level, Level]:
        history = [DiskUse(NOW - (len(before) - number) * DAY, each, 1000) for number, each in enumerate(before)]
        every = [*history, DiskUse(NOW, used, 1000)]
        return judge.disk(every, limits()).level, judge.disk_trend(every, limits()).level

    assert [levels(each)[0] for each in (800, 801, 951)] == [Level.OK, Level.WARNING, Level.CRITICAL]
    assert levels(600, 300, 400, 500) == (Level.OK, Level.WARNING), "full in four days"
    assert levels(850, 550, 650, 750) == (Level.WARNING, Level.WARNING), "each is told by itself"
    assert levels(600, 590, 594, 597) == (Level.OK, Level.OK)


def test_a_replica_is_behind_once_a_backup_is_lacking_for_longer_than_a_run_takes() -> None:
    def level(*ages: timedelta) -> Level:
        return judge.copies("s3", [NOW - each for each in ages], NOW, limits()).level

    assert level() is Level.OK and level(HOUR) is Level.OK
    assert level(HOUR, 3 * HOUR) is Level.WARNING and level(3 * DAY) is Level.CRITICAL


def test_figures_and_levels_are_written_as_prometheus_and_monitoring_plugins_read_them() -> None:
    odd = Finding("disk", 'lo"c\\al', Level.UNKNOWN, "50% | more\nthan 'that'", 50.0, "%", 80, None)
    look = looked(finding(Level.CRITICAL, value=30.5), odd, Finding("vault", "local", Level.OK, "well"))
    text = metrics.text(look, NOW)
    assert 'backup_flows_condition{site="shop",condition="backup-age",about="mysql/app"} 2\n' in text
    assert 'backup_flows_condition_seconds{site="shop",condition="backup-age",about="mysql/app"} 30.5\n' in text
    assert 'backup_flows_condition_percent{site="shop",condition="disk",about="lo\\"c\\\\al"} 50\n' in text
    assert text.endswith(f'backup_flows_watched_at_seconds{{site="shop"}} {NOW.timestamp():.0f}\n')
    line = first_line(look)
    assert line.startswith("BACKUPS CRITICAL - shop: 1 critical, 1 unknown: mysql/app is critical; 50% / more than")
    assert line.count("|") == 1 and line.endswith("| 'backup-age/mysql/app'=30.5s;10;20 'disk/lo\"c\\al'=50%;80")


def test_every_condition_has_a_runbook() -> None:
    page = (Path(__file__).parents[2] / "docs/watch.md").read_text()
    runbooks = re.findall(r"^## (\S+)$", page.partition("\n# Runbooks\n")[2], re.MULTILINE)
    assert runbooks[0] == "silence" and sorted(runbooks[1:]) == sorted(CONDITIONS), "neither more nor less"
    assert CONDITIONS.keys() > OF_RUNS
    assert json.dumps([each.as_dict() for each in (finding(Level.OK),)])

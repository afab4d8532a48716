"""The watch's judgement: limits, levels, trends, and that each finding is told once when it comes and once when it
goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from deployments.cli.watching import first_line
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.names import BackupName
from engine.site import Target
from engine.status import StatusRow
from engine.watch import judge, metrics
from engine.watch.findings import CONDITIONS, Finding, Level, Look, above, ordered, worst
from engine.watch.judge import DiskUse
from engine.watch.remember import Memory, Standing, memory, recall
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
        ({"disk": 100}, "less than or equal to 99"),
    ],
)
def test_a_wrong_setting_is_refused_and_no_secret_is_shown(given: dict[str, object], says: str) -> None:
    site = {"site": "shop", "vault": {"root": "/x"}, "mysql": {"databases": ["app"]}, "watch": given}
    with pytest.raises(ValidationError) as refused:
        SiteConfig.model_validate(site)
    told = str(refused.value.errors(include_input=False, include_url=False)[0]["msg"])
    assert says in told and "FAKE" not in told


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


def test_what_is_remembered_outlives_the_process_and_a_damaged_file_costs_one_repetition(tmp_path: Path) -> None:
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
    with memory(tmp_path / "is not there") as known:
        assert [each.turn for each in known.take_in(bad, NOW, None)] == ["raised"]


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
    def level(used: int, *before: int) -> Level:
        history = [DiskUse(NOW - (len(before) - number) * DAY, each, 1000) for number, each in enumerate(before)]
        return judge.disk([*history, DiskUse(NOW, used, 1000)], limits()).level

    assert (level(800), level(801), level(951)) == (Level.OK, Level.WARNING, Level.CRITICAL)
    assert level(600, 300, 400, 500) is Level.WARNING, "full in four days"
    assert level(600, 590, 594, 597) is Level.OK


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
    assert [each for each in CONDITIONS if f"\n## {each}\n" not in page] == []
    assert json.dumps([each.as_dict() for each in (finding(Level.OK),)])

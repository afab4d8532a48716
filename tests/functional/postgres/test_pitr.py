"""A PostgreSQL server as it was at any moment: from stock base backups and its log, beside production."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.errors import IntegrityError, LogGap, OutsideWindow, RestoreRefused
from engine.postgres import PostgresSource
from engine.postgres.commits import commits_near
from engine.postgres.grounds import HostGround
from engine.postgres.new_cluster import restore_cluster
from engine.postgres.pitr import Past, export, recover
from engine.scratch.postgres_files import BaseBackup, WalFile
from engine.scratch.postgres_settings import Goal
from tests.functional.postgres.pitr_kit import (
    Commit,
    by,
    config_of,
    copy_wal,
    inside,
    opened,
    running,
    same_owner,
    serving,
    site_of,
    switch,
    take_base,
    truth,
    wal_of_timeline,
)
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine
from tests.servers.fixtures import PASSWORD, Factory, server_in
from tests.soak import SEED, trials

pytestmark = pytest.mark.sampled

LOADED = 240
ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Story:
    """A server that lived a while: a base backup, a load, an idle spell, a dropped table, its whole log."""

    server: DatabaseServer
    base: BaseBackup
    wal: list[WalFile]
    commits: list[Commit]
    before_drop: str
    dropped: Commit
    directory: Path
    tablespace: str


def _live(server: DatabaseServer, directory: Path) -> Story:
    server.sql("CREATE DATABASE app")
    server.sql("CREATE DATABASE other")
    server.sql("CREATE ROLE plain LOGIN")
    server.sql("CREATE TABLE load (n int PRIMARY KEY, filler text)", "app")
    place = _tablespace(server, directory)
    server.sql(f"CREATE TABLESPACE far LOCATION '{place}'")
    server.sql("CREATE TABLE faraway TABLESPACE far AS SELECT n FROM generate_series(1, 5000) n", "app")
    server.sql("CREATE TABLE precious AS SELECT n FROM generate_series(1, 777) n", "app")
    base = take_base(server, directory / "base")
    with server.connect("app") as connection, server.connect("other") as beside:
        beside.execute("CREATE TABLE noise (n int)")
        for number in range(LOADED):
            connection.execute("INSERT INTO load VALUES (%s, repeat('x', 2000))", [number])
            beside.execute("INSERT INTO noise VALUES (%s)", [number])
            if number % 60 == 59:
                switch(server)
    before = str(server.sql("SELECT pg_current_wal_lsn()")[0][0])
    server.sql("BEGIN; DROP TABLE precious; INSERT INTO load VALUES (9000, 'the mistake'); COMMIT", "app")
    wal = copy_wal(server, directory / "wal")
    commits = truth(server, "app")
    return Story(server, base, wal, commits, before, commits[-1], directory, place)


def _tablespace(server: DatabaseServer, directory: Path, name: str = "far") -> str:
    if server.container:
        inside(server, "sh", "-c", f"mkdir /var/lib/postgresql/{name} && chown postgres /var/lib/postgresql/{name}")
        return f"/var/lib/postgresql/{name}"
    assert server.data_directory is not None
    place = server.data_directory.parent / name
    place.mkdir()
    same_owner(place, server.data_directory)
    return str(place)


_SETTINGS = ("track_commit_timestamp=on", "wal_keep_size=1GB")


@pytest.fixture(scope="module")
def story15(postgres_factory: Factory, tmp_path_factory: pytest.TempPathFactory) -> Story:
    return _live(postgres_factory(*_SETTINGS), tmp_path_factory.mktemp("story15"))


@pytest.fixture(scope="module")
def story17(dockerd: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    options = [part for each in ("shared_buffers=32MB", "fsync=off", *_SETTINGS) for part in ("-c", each)]
    environment = {"POSTGRES_PASSWORD": PASSWORD}
    container = dockerd.service("past", "postgres", "postgres17", environment=environment, command=options)
    server = server_in("postgres", dockerd, container, 5432, "postgres")
    yield _live(server, tmp_path_factory.mktemp("story17"))
    container.remove(force=True, v=True)


@pytest.fixture(params=["15 on this host", "17 in a container"])
def story(request: pytest.FixtureRequest) -> Story:
    found: Story = request.getfixturevalue("story15" if "15" in request.param else "story17")
    return found


def _rows(past: Past, query: str = "SELECT n FROM load ORDER BY n", database: str = "app") -> list[int]:
    with opened(past.config, database) as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


def _nothing_left(state: Path) -> bool:
    return not list((state / "scratch").iterdir())


@pytest.mark.soak
def test_a_random_moment_gives_exactly_what_was_committed_by_then(story: Story, tmp_path: Path) -> None:
    random_ = random.Random(f"{SEED}-pitr")
    for _ in range(trials(3, 20)):
        commit = random_.choice(story.commits[1:])
        moment = commit.at + timedelta(microseconds=random_.choice([-1, 0, 1]))
        with recover(
            config_of(story.server), site="x", state=tmp_path, base=story.base, wal=story.wal, goal=Goal(time=moment)
        ) as past:
            expected = by(story.commits, moment)
            assert _rows(past) == expected, moment
            assert past.report.timeline == 2
            assert past.report.to_the_end == (commit is story.commits[-1] and moment >= commit.at)
            assert _rows(past, "SELECT count(*)::int FROM faraway") == [5000]
        assert _nothing_left(tmp_path)


def test_production_is_as_it_was_and_was_not_spoken_to(story: Story, tmp_path: Path) -> None:
    look = (
        "SELECT timeline_id, (SELECT md5(string_agg(l::text, ',' ORDER BY n)) FROM load l) FROM pg_control_checkpoint()"
    )
    before = story.server.sql(look, "app")
    wrong = config_of(story.server).model_copy(update={"password": None, "port": 1})
    with recover(wrong, site="x", state=tmp_path, base=story.base, wal=story.wal, goal=Goal()) as past:
        assert len(_rows(past)) == LOADED + 1
    assert story.server.sql(look, "app") == before


def test_a_moment_long_after_the_last_commit_gives_all_of_it(story15: Story, tmp_path: Path) -> None:
    moment = story15.commits[-1].at + timedelta(hours=1)
    with recover(
        config_of(story15.server), site="x", state=tmp_path, base=story15.base, wal=story15.wal, goal=Goal(time=moment)
    ) as past:
        assert _rows(past) == [each.number for each in story15.commits]
        assert past.report.to_the_end
        assert past.report.last_commit is not None and past.report.last_commit >= story15.commits[-1].at


def test_a_position_or_a_time_right_before_a_drop_brings_the_table_back(story: Story, tmp_path: Path) -> None:
    for goal in (Goal(lsn=story.before_drop, inclusive=False), Goal(time=story.dropped.at, inclusive=False)):
        with recover(
            config_of(story.server), site="x", state=tmp_path, base=story.base, wal=story.wal, goal=goal
        ) as past:
            assert _rows(past, "SELECT count(*)::int FROM precious") == [777]
            assert _rows(past) == list(range(LOADED))
            assert _rows(past, "SELECT n FROM noise ORDER BY n", "other") == list(range(LOADED))


def test_the_ordinary_source_works_on_it_and_exports_a_signed_backup(story: Story, tmp_path: Path) -> None:
    config = config_of(story.server)
    moment = story.dropped.at - timedelta(microseconds=1)
    with site_of(config, tmp_path / "vault") as site:
        state = site.vault.state
        with recover(
            config, site=site.name, state=state, base=story.base, wal=story.wal, goal=Goal(time=moment)
        ) as past:
            assert PostgresSource(past.config, site="x").databases() == ["app", "other"]
            entry, manifest = export(site, past, source=config.name, database="app")
        assert (manifest.tier, manifest.source, manifest.database) == ("recovered", "postgres", "app")
        assert manifest.label == f"as of {moment.isoformat().replace('+00:00', 'Z')}"
        assert manifest.rows == {"public.load": LOADED, "public.precious": 777, "public.faraway": 5000}
        assert manifest.contents["recovered"]["timeline"] == 2
        dump = b"".join(site.vault.read_part(entry, manifest))
        assert site.source(config.name).inspect(manifest, [dump]) == manifest.rows
        assert b"the mistake" not in dump
        # what belongs to the server is the source's own: nothing of ours is in it
        text = b"".join(site.vault.read_part(entry, manifest, "globals"))
        assert b"backup" not in text.lower()
        assert f"LOCATION '{story.tablespace}'".encode() in text


def test_a_recovered_server_does_nothing_by_itself(story15: Story, tmp_path: Path) -> None:
    with recover(
        config_of(story15.server), site="x", state=tmp_path, base=story15.base, wal=story15.wal, goal=Goal()
    ) as past:
        with opened(past.config, "postgres") as connection:
            for name, value in {
                "archive_mode": "off",
                "max_logical_replication_workers": "0",
                "listen_addresses": "",
                "primary_conninfo": "",
                "shared_preload_libraries": "",
            }.items():
                assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_a_source_read_by_a_role_with_few_rights_is_recovered_whole(story15: Story, tmp_path: Path) -> None:
    few = config_of(story15.server).model_copy(update={"user": "plain"})
    with recover(few, site="x", state=tmp_path, base=story15.base, wal=story15.wal, goal=Goal()) as past:
        assert past.config.user == "postgres"
        assert len(_rows(past)) == LOADED + 1


def test_a_segment_that_is_missing_or_short_is_named_before_anything_starts(story15: Story, tmp_path: Path) -> None:
    config, wal = config_of(story15.server), story15.wal
    gone = wal[3].name
    with pytest.raises(LogGap, match=gone):
        with recover(config, site="x", state=tmp_path, base=story15.base, wal=[*wal[:3], *wal[4:]], goal=Goal()):
            raise AssertionError("it must not come so far")
    short = WalFile(gone, lambda: iter([b"x" * 1000]))
    with pytest.raises(IntegrityError, match=f"{gone}.* 1,000 bytes"):
        with recover(config, site="x", state=tmp_path, base=story15.base, wal=[*wal[:3], short, *wal[4:]], goal=Goal()):
            raise AssertionError("it must not come so far")
    assert _nothing_left(tmp_path)


def test_a_record_that_cannot_be_read_is_not_taken_for_the_end_of_the_log(story15: Story, tmp_path: Path) -> None:
    damaged = story15.wal[3]

    def altered() -> Iterator[bytes]:
        data = bytearray(b"".join(damaged.open()))
        data[100_000:100_100] = bytes(100)
        yield bytes(data)

    wal = [*story15.wal[:3], WalFile(damaged.name, altered), *story15.wal[4:]]
    for goal in (Goal(), Goal(time=story15.commits[-1].at + timedelta(hours=1))):
        with pytest.raises(IntegrityError, match=f"ends in segment {damaged.name}"):
            with recover(config_of(story15.server), site="x", state=tmp_path, base=story15.base, wal=wal, goal=goal):
                raise AssertionError("it must not come so far")


def test_a_moment_before_the_base_backup_ended_is_refused_in_words(story15: Story, tmp_path: Path) -> None:
    early = Goal(time=story15.commits[0].at - timedelta(hours=1))
    with pytest.raises(OutsideWindow, match="base backup"):
        with recover(
            config_of(story15.server), site="x", state=tmp_path, base=story15.base, wal=story15.wal, goal=early
        ):
            raise AssertionError("it must not come so far")
    assert _nothing_left(tmp_path)


def test_a_position_beyond_the_log_is_refused(story15: Story, tmp_path: Path) -> None:
    with pytest.raises(OutsideWindow, match="past the end of the log"):
        with recover(
            config_of(story15.server),
            site="x",
            state=tmp_path,
            base=story15.base,
            wal=story15.wal,
            goal=Goal(lsn="FF/0"),
        ):
            raise AssertionError("it must not come so far")


def test_the_commits_around_a_moment_are_told(story: Story, tmp_path: Path) -> None:
    chosen = story.commits[100]
    before, after = commits_near(
        config_of(story.server),
        site="x",
        state=tmp_path,
        major=story.base.major,
        wal=story.wal,
        moment=chosen.at,
        count=3,
    )
    assert len(before) == len(after) == 3
    assert before[-1].at == chosen.at and after[0].at > chosen.at
    assert _nothing_left(tmp_path)


def test_a_whole_cluster_comes_back_in_an_empty_directory_and_runs(story15: Story, tmp_path: Path) -> None:
    assert story15.server.data_directory is not None
    root = story15.server.data_directory.parent / "new-machine"
    data = root / "data"
    config = config_of(story15.server)
    arguments: dict[str, Any] = {"state": tmp_path, "base": story15.base, "wal": story15.wal}
    moment = story15.dropped.at - timedelta(microseconds=1)
    ground = HostGround.of(config, data, tmp_path, tablespaces=root / "spaces")
    done = restore_cluster(config, **arguments, goal=Goal(time=moment), ground=ground)
    assert done.steps
    with running(data, "app") as connection:
        assert connection.execute("SELECT count(*) FROM precious").fetchone() == (777,)
        assert connection.execute("SELECT count(*) FROM faraway").fetchone() == (5000,)
        assert connection.execute("SELECT count(*) FROM load").fetchone() == (LOADED,)
        assert connection.execute("SHOW archive_mode").fetchone() == ("off",)
        connection.execute("INSERT INTO load VALUES (10000, 'a new life')")
        connection.commit()
        connection.execute("SELECT pg_switch_wal()")
        connection.commit()
        wal = [*story15.wal, *wal_of_timeline(data, 2, tmp_path / "second")]
    # the first life's base and log lead into the second one; without its segments, its history does not
    for files, last in (
        (wal, 10000),
        ([each for each in wal if each.name[:8] == "00000001" or "." in each.name], 9000),
    ):
        with recover(config, site="x", state=tmp_path, base=story15.base, wal=files, goal=Goal()) as past:
            assert _rows(past)[-1] == last
            assert past.report.timeline == 3
    with pytest.raises(RestoreRefused, match="not empty"):
        restore_cluster(config, **arguments, goal=Goal(), ground=HostGround.of(config, data, tmp_path))
    with pytest.raises(RestoreRefused, match="tablespace"):  # where it stood, production's still is
        restore_cluster(config, **arguments, goal=Goal(), ground=HostGround.of(config, root / "again", tmp_path))
    assert not (root / "again").exists()
    assert _nothing_left(tmp_path)


def test_a_tablespace_made_after_the_base_backup_never_leads_a_replay_into_production(
    story: Story, tmp_path: Path
) -> None:
    server, config = story.server, config_of(story.server)
    place = _tablespace(server, story.directory, "late")
    server.sql(f"CREATE TABLESPACE late LOCATION '{place}'")
    server.sql("CREATE TABLE latest TABLESPACE late AS SELECT n FROM generate_series(1, 999) n", "app")
    wal = copy_wal(server, tmp_path / "wal")
    server.sql("UPDATE latest SET n = -n; CHECKPOINT", "app")  # what a replay into these files would undo
    given: dict[str, Any] = {"state": tmp_path, "base": story.base, "wal": wal, "goal": Goal()}
    if server.container:  # nobody else's is at that path in a scratch container
        with recover(config, site="x", **given) as past:
            assert _rows(past, "SELECT n FROM latest ORDER BY n") == list(range(1, 1000))
    else:
        with pytest.raises(RestoreRefused, match=f"{place}.* may be production's"):
            with recover(config, site="x", **given):
                raise AssertionError("it must not come so far")
        third = Path(place).parent / "third"
        ground = HostGround.of(config, third / "data", tmp_path, tablespaces=third / "spaces")
        with pytest.raises(RestoreRefused, match="not empty"):
            restore_cluster(config, **given, ground=ground)
        assert list((third / "data").iterdir()) == []
        with recover(config, site="x", **{**given, "goal": Goal(lsn=story.before_drop)}) as past:  # before it was made
            assert _rows(past) == list(range(LOADED))
    assert server.sql("SELECT min(n), count(*) FROM latest", "app") == [("-999", "999")]
    server.sql("DROP TABLE latest", "app")
    server.sql("DROP TABLESPACE late")


@pytest.mark.faults
@pytest.mark.parametrize("when", ["unpack the base backup", "apply the log", "recovered"])
def test_what_a_killed_recovery_leaves_is_gone_after_the_sweep(story: Story, tmp_path: Path, when: str) -> None:
    config = config_of(story.server)
    with site_of(config, tmp_path / "vault") as site:
        secret = {"password": story.server.password}
        orders = {
            "config": config.model_dump(mode="json", exclude_unset=True) | secret,
            "directory": str(story.directory),
            "major": story.base.major,
            "state": str(site.vault.state),
            "when": when,
        }
        program = [sys.executable, "-m", "tests.functional.postgres.dying_recovery"]
        done = subprocess.run(program, input=json.dumps(orders), text=True, cwd=ROOT, capture_output=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        steps = [json.loads(line) for line in next((site.vault.state / "scratch").glob("*.jsonl")).open()]
        directory = Path(next(step["path"] for step in steps if step["step"] == "directory"))
        assert directory.is_dir()
        swept = site.sweep()
        assert swept.problems == []
        assert any(directory.name in each for each in swept.done)
        assert not directory.exists()
        assert not list(site.vault.state.glob("scratch/*"))
        assert not serving(directory)
        if story.server.container:
            listing = [story.server.docker_host, "ps", "--all", "--format", "{{.Names}}"]
            names = subprocess.run(["docker", "--host", *listing], check=True, capture_output=True, text=True).stdout
            assert directory.name not in names
        # and the next one works as if nothing had been
        with recover(config, site="x", state=site.vault.state, base=story.base, wal=story.wal, goal=Goal()) as past:
            assert len(_rows(past)) == LOADED + 1

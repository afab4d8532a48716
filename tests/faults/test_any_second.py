"""Any second can be had, exactly: against the recorded truth, on every engine, by the way that flows and commands go.

One life of a server for all trials of an engine, see ``any_second``. A seeded sample in ``make test``; twenty
targets an engine in ``make soak``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import moments, names
from engine.config import SiteConfig
from engine.point_in_time import PastPlan, bring_back, plan_past, recovered
from engine.restore_plan import RestoreRequest
from engine.site import Site
from tests.faults.any_second import PROD, Story, There
from tests.faults.any_second_mysql import MySQLStory
from tests.faults.any_second_postgres import SETTINGS, PostgresStory
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.databases import DatabaseServer
from tests.servers.docker import DockerEngine
from tests.servers.fixtures import PASSWORD, Factory, server_in
from tests.soak import trials

pytestmark = pytest.mark.timeout(900)

ENGINES = ["mariadb 10.11", "mysql 9 in a container", "postgres 15", "postgres 17 in a container"]


def site_of(server: DatabaseServer, root: Path, **more: Any) -> Site:
    """A site with this server as its one source."""
    where: dict[str, Any] = {"host": server.host, "port": server.port}
    if server.container:
        where = {"service": server.service, "project": server.project, "docker_host": server.docker_host}
    source = {"user": server.user, "password": server.password, "databases": [PROD], **where, **more}
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
    kind = "postgres" if server.flavour == "postgres" else "mysql"
    return Site(SiteConfig.model_validate({"site": "anysecond", "vault": vault, kind: source}))


@pytest.fixture(scope="module")
def postgres17_own(dockerd: DockerEngine) -> Iterator[DatabaseServer]:
    options = [part for each in ("shared_buffers=32MB", "fsync=off", *SETTINGS) for part in ("-c", each)]
    container = dockerd.service(
        "anysecond", "postgres", "postgres17", environment={"POSTGRES_PASSWORD": PASSWORD}, command=options
    )
    yield server_in("postgres", dockerd, container, 5432, "postgres")
    container.remove(force=True, v=True)


@pytest.fixture(scope="module", params=ENGINES)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One server's life, lived to its end."""
    make: dict[str, Callable[[], DatabaseServer]] = {
        ENGINES[0]: lambda: request.getfixturevalue("mariadb_factory")(),
        ENGINES[1]: lambda: request.getfixturevalue("mysql9_container"),
        ENGINES[2]: lambda: _with_settings(request.getfixturevalue("postgres_factory")),
        ENGINES[3]: lambda: request.getfixturevalue("postgres17_own"),
    }
    server = make[request.param]()
    root = tmp_path_factory.mktemp("any_second") / "vault"
    with site_of(server, root) as site:
        lived = (PostgresStory if server.flavour == "postgres" else MySQLStory)(server, site)
        lived.live()
        print(f"{request.param}: {len(lived.commits)} commits, {lived.rotations} rotations, {lived.runs} shipping runs")
        yield lived
    server.sql(f"DROP DATABASE {PROD}")


def _with_settings(factory: Factory) -> DatabaseServer:
    return factory(*SETTINGS)


def past_of(story: Story, when: str) -> PastPlan:
    return plan_past(story.site, RestoreRequest(PROD, source=story.source), when)


def check(story: Story, when: str, expected: There) -> None:
    """Recover, compare, and see that production noticed nothing."""
    plan = past_of(story, when)
    with recovered(story.site, plan) as past:
        found = story.found(past.config)
    assert found == expected, f"{when}: {difference(found, expected)}\n" + "\n".join(plan.lines())
    assert len(found.ledger) > story.rows_in_full(), "nothing was replayed"
    assert story.fingerprint() == story.production


def difference(found: There, expected: There) -> str:
    more, less = set(found.ledger) - set(expected.ledger), set(expected.ledger) - set(found.ledger)
    return (
        f"too many {sorted(more)[:5]} of {len(more)}, lacking {sorted(less)[:5]} of {len(less)}, {found.users} users "
        f"for {expected.users}, {found.orders} orders for {expected.orders}"
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_random_second_gives_exactly_what_was_committed_by_then(
    story: Story, counted_trials: Callable[[int], None]
) -> None:
    targets = story.targets(trials(3, 20))
    for target in targets:
        check(story, names.iso(target), story.expected(target))
    counted_trials(len(targets))


@pytest.mark.sampled
@pytest.mark.parametrize("accident", ["delete", "drop table", "drop database"])
def test_right_before_an_accident_everything_is_there(story: Story, accident: str) -> None:
    if isinstance(story, PostgresStory):
        target = story.right_before(accident)
        check(story, names.iso(target), story.expected(target))
        return
    assert isinstance(story, MySQLStory)
    table, kind = {"delete": ("users", "DELETE"), "drop table": ("orders", "DROP"), "drop database": ("*", "DROP")}[
        accident
    ]
    hits = list(moments.find_events(story.site, "mysql", table=f"{PROD}.{table}", kinds=[kind]))
    words = {"delete": "DELETE FROM", "drop table": "DROP TABLE", "drop database": "DROP DATABASE"}[accident]
    known = "" if accident == "drop database" else table
    expected = story.before(story.accident(words, known))
    hit = hits[-2] if accident == "drop table" else hits[-1]  # a dropped database takes its tables along
    check(story, hit.target, expected)
    assert expected.users == (400 if accident == "delete" else 200)


@pytest.mark.sampled
def test_a_position_a_gtid_and_a_backup_of_the_past_are_exact(
    story: Story, counted_trials: Callable[[int], None]
) -> None:
    """The places in the logs that only MySQL and MariaDB have; and an export, on all."""
    made = 1
    if isinstance(story, MySQLStory):
        chosen = story.places(trials(1, 8))
        for turn, index in enumerate(chosen):
            one = story.commits[index]
            if turn % 2:
                check(story, f"gtid {one.gtid}", story.before(index + 1))
            else:
                check(story, f"{one.log}:{one.start}", story.before(index))
        made += len(chosen)
    target = story.targets(20)[0]
    expected = story.expected(target)
    entry, manifest = bring_back(story.site, past_of(story, names.iso(target)))
    assert entry.tier == names.RECOVERED and manifest.database == PROD
    counted = {name.rpartition(".")[2]: rows for name, rows in (manifest.rows or {}).items()}
    assert counted["ledger"] == len(expected.ledger) and counted["users"] == expected.users
    assert story.fingerprint() == story.production
    counted_trials(made)

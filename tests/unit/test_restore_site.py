"""Restoring a machine, as far as it goes without one: which recovery point, what is remembered, who answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from engine.buckets.endpoint import Endpoint
from engine.catalog import Entry
from engine.config import BucketsConfig, HealthCheck, SiteConfig
from engine.errors import ConfigError, ConfirmationNeeded, CredentialsRefused, RestoreRefused, UnknownName
from engine.images.record import Container, Record
from engine.manifest import Server
from engine.postgres.globals_replay import _is_about, statements
from engine.restore_site.containers import serving
from engine.restore_site.health import ask
from engine.restore_site.plan import SitePlan, SiteRequest, begun_by, check_confirmation, make_plan
from engine.restore_site.points import Point, expected_of, search
from engine.restore_site.services import _await
from engine.restore_site.state import Done, State
from engine.site import Site, Target
from engine.source import Facts
from engine.stores.s3_client import ATTEMPTS

pytestmark = pytest.mark.unit
KEY = "fake-passphrase-for-tests-" + "x" * 20
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _id(day: int) -> str:
    return f"202603{day:02d}_020000-0000aaaa"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    body = {
        "site": "shop", "vault": {"root": str(tmp_path / "v"), "keys": {"keys": {"main": KEY}}},
        "mysql": {"databases": ["app", "crm"]}, "postgres": {}, "config": {"paths": ["/etc/shop"]},
    }  # fmt: skip
    with Site(SiteConfig.model_validate(body)) as made:
        made.vault.check()
        yield made


def _make(site: Site, source: str, database: str, day: int, monkeypatch: pytest.MonkeyPatch, *lacking: str) -> Entry:
    """One backup of the run of that day."""
    from engine import names

    kinds = {"mysql": ("mysql", "sql"), "postgres": ("postgres", "sql"), "config": ("config", "tar")}
    kind, ext = kinds[source]
    taken = datetime(2026, 3, day, 2, 0, 5, tzinfo=UTC)
    monkeypatch.setattr(names, "now", lambda: taken)
    with site.vault.begin(
        source=source, kind=kind, tier="daily", database=database, ext=ext, recovery_point=_id(day)
    ) as writer:
        writer.data().write(b"-- nothing but a line\n")
        entry, _ = writer.publish(
            Facts(server=Server(flavour="x", version="1"), dump_format=ext, incomplete=list(lacking))
        )
    monkeypatch.undo()
    return entry


ALL = [("mysql", "app"), ("mysql", "crm"), ("postgres", "any"), ("config", "config")]


def _run(site: Site, day: int, monkeypatch: pytest.MonkeyPatch, *without: str) -> dict[str, Entry]:
    return {
        f"{source}/{name}": _make(site, source, name, day, monkeypatch)
        for source, name in ALL
        if f"{source}/{name}" not in without
    }


def test_the_newest_complete_recovery_point_is_taken_and_what_newer_ones_lack_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, lacks in ((1, ()), (2, ()), (3, ("mysql/crm",)), (4, ("postgres/any",))):
        _run(site, day, monkeypatch, *lacks)
    expected = expected_of(site)
    assert expected == {"mysql": ["app", "crm"], "postgres": [], "config": ["config"]}
    found = search(site, expected)
    assert found.id == _id(2) and set(found.pieces) == {Target(*each) for each in ALL}
    assert search(site, expected, before=datetime(2026, 3, 1, 23, tzinfo=UTC)).id == _id(1)
    assert search(site, expected, wanted=_id(1)).id == _id(1)
    with pytest.raises(RestoreRefused, match="mysql/crm is not in it") as refused:
        search(site, expected, wanted=_id(3))
    assert "--without" in refused.value.remedy
    without = ("mysql/crm",)
    assert search(site, expected_of(site, without=without), wanted=_id(3), without=without).id == _id(3)
    assert search(site, expected_of(site, only=("config",))).id == _id(4)
    with pytest.raises(RestoreRefused, match="(?s)_020000-0000aaaa .*postgres is not in it"):
        search(site, expected, wanted=_id(4))


def test_broken_and_incomplete_backups_make_no_machine(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(site, 1, monkeypatch)
    second = _run(site, 2, monkeypatch)
    _run(site, 3, monkeypatch, "config/config")
    _make(site, "config", "config", 3, monkeypatch, "/etc/shop: gone")
    site.vault.mark(second["mysql/app"], "broken", reason="a test")
    assert search(site, expected_of(site)).id == _id(1)
    with pytest.raises(RestoreRefused, match="mysql/app was found broken"):
        search(site, expected_of(site), wanted=_id(2))
    with pytest.raises(RestoreRefused, match=r"config/config is incomplete \(/etc/shop: gone\)"):
        search(site, expected_of(site), wanted=_id(3))
    with pytest.raises(UnknownName, match="has no recovery point '20200101_000000-00000000' in local"):
        search(site, expected_of(site), wanted="20200101_000000-00000000")
    with pytest.raises(UnknownName, match="mysql has no 'shop'"):
        expected_of(site, only=("mysql/shop",))


def test_a_time_that_is_none_is_refused_and_a_day_ends_at_its_midnight() -> None:
    notes: list[str] = []
    assert begun_by(SiteRequest(at="2026-03-01"), notes) == datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    assert notes and begun_by(SiteRequest(point_in_time="2026-03-01T02:00:00+01:00"), []) == NOON - timedelta(hours=11)
    assert begun_by(SiteRequest(point_in_time="latest"), []) is None and begun_by(SiteRequest(), []) is None
    for request in (SiteRequest(at="2026-02-30"), SiteRequest(at="2026-03-01T02:00"), SiteRequest(at="x")):
        with pytest.raises(ConfigError, match="is not a time|has no zone"):
            begun_by(request, [])
    with pytest.raises(ConfigError, match="Both a recovery point and a time"):
        begun_by(SiteRequest(recovery_point=_id(1), at="2026-03-01"), [])


def test_an_unfinished_restore_is_gone_on_with_and_another_one_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(site, 1, monkeypatch)
    _run(site, 2, monkeypatch)
    first = make_plan(site, SiteRequest(recovery_point=_id(1)))
    assert [step.key for step in first.steps] == [
        "config/config", "mysql: accounts", "postgres: accounts", "mysql/app", "mysql/crm", "postgres/any",
        "mysql: grants", "postgres: grants",
    ]  # fmt: skip
    request = {"recovery_point": _id(1), "at": "", "point_in_time": "", "location": "auto", "only": [], "without": []}
    state = State.begin(site.vault.state, site="shop", point=_id(1), request=request)
    state.record("config/config", fact="kept")
    state.record("config/config", more=1)
    assert State.open(site.vault.state).begun("config/config") == {"fact": "kept", "more": 1}  # type: ignore[union-attr]
    state.finish("config/config", Done("done", {"files": 2}))
    plan = make_plan(site, SiteRequest(without=("mysql/crm",)))
    assert plan.point.id == _id(1) and [step.key for step in plan.steps if plan.is_done(step)] == ["config/config"]
    assert "mysql/crm" not in [step.key for step in plan.steps]
    with pytest.raises(RestoreRefused, match=r"is not finished; this asks for another one \(at\)"):
        make_plan(site, SiteRequest(at="2026-03-02"))
    assert make_plan(site, SiteRequest(anew=True)).point.id == _id(2)
    state.path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        make_plan(site, SiteRequest())


def test_a_machine_in_use_wants_more_than_its_name() -> None:
    point = Point(_id(1), NOON)
    clean = SitePlan("shop", SiteRequest(), point, [])
    used = SitePlan("shop", SiteRequest(), point, [], living=["container web-1 (running)"])
    assert check_confirmation(clean, "shop") and not check_confirmation(clean, "")
    assert check_confirmation(used, " replace  shop ")
    for plan, confirm in ((clean, "shp"), (used, "shop")):
        with pytest.raises(ConfirmationNeeded):
            check_confirmation(plan, confirm)
    assert "THIS MACHINE IS IN USE" in "\n".join(used.lines())


@contextmanager
def _answering(*answers: tuple[int, str]) -> Iterator[str]:
    """A server that gives these answers, the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/health"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_address_is_asked_until_it_answers_as_it_should() -> None:
    with _answering((503, "starting"), (200, "ok")) as url:
        assert ask(HealthCheck(url=url, contains="ok")) == ""
    with _answering((200, "something else")) as url:
        assert "does not contain 'ok'" in ask(HealthCheck(url=url, contains="ok", seconds=0.01))
        assert ask(HealthCheck(url=url, status=204, seconds=0.01)) == "it answers 200"
    assert "no answer (ConnectError)" in ask(HealthCheck(url=url, seconds=0.01))
    with pytest.raises(ValueError, match="is not of the form https://HOST"):
        HealthCheck(url="ftp://x")


def test_an_s3_server_that_still_starts_is_waited_for_and_one_that_refuses_is_not() -> None:
    def bucket(url: str) -> Endpoint:
        given = {"name": "media", "endpoint_url": url, "access_key": "a", "secret_key": "FAKE", "buckets": ["media"]}
        return Endpoint.of(BucketsConfig.model_validate(given), "media")

    starting = "<Error><Code>XMinioServerNotInitialized</Code><Message>Server not initialized yet.</Message></Error>"
    refused = "<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>"
    busy = [(503, starting)] * (ATTEMPTS + 1)  # one more than boto itself tries
    with _answering(*busy, (200, "<ListBucketResult><Name>media</Name></ListBucketResult>")) as url:
        _await(bucket(url).exists, "waiting")
    with _answering((403, refused)) as url, pytest.raises(CredentialsRefused):
        _await(bucket(url).exists, "waiting")


def test_an_address_leads_to_the_container_of_its_name_or_of_its_port() -> None:
    def container(name: str, service: str, *ports: str) -> Container:
        bindings = {f"{port}/tcp": [{"HostIp": "", "HostPort": port}] for port in ports}
        return Container(name, "1", service, "i", "i", "c", True, {}, {"PortBindings": {**bindings, "1/udp": None}})

    record = Record(
        "bench", "now", [container("bench-minio-1", "minio", "9000", "9001"), container("n8n", "", "5678")], []
    )
    for url, name in (
        ("http://minio:9000", "bench-minio-1"), ("http://127.0.0.1:9000/", "bench-minio-1"),
        ("http://localhost:5678", "n8n"), ("https://n8n", "n8n"),
    ):  # fmt: skip
        assert [each.name for each in serving(record, url)] == [name], url
    assert serving(record, "https://s3.example.org:9000") == []
    # what lives in the network of another answers at its ports
    vpn = Container(
        "bench-vpn-1", "77", "vpn", "i", "i", "c", True, {}, {"PortBindings": {"90/tcp": [{"HostPort": "90"}]}}
    )
    side = Container("bench-s4-1", "78", "s4", "i", "i", "c", True, {}, {"NetworkMode": "container:77"})
    beside = replace(record, containers=[vpn, *record.containers, side])
    assert serving(beside, "http://localhost:90") == serving(beside, "http://vpn:1") == [vpn, side]
    # one in this host's own network says of no port that it is its own
    own = Container("bench-s3-1", "1", "s3", "i", "i", "c", True, {}, {"NetworkMode": "host"})
    record = replace(record, containers=[*record.containers, own])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert serving(record, url) == [], "something answers already"
    assert serving(record, url) == [own] and serving(record, "http://localhost:9000") != [own]


def test_globals_are_taken_apart_at_their_semicolons_and_our_own_role_is_left_alone() -> None:
    text = (
        "\\restrict abc\n-- a comment; with one\nCREATE ROLE web;\n"
        "ALTER ROLE web WITH LOGIN PASSWORD 'SCRAM;''x';\n"
        "COMMENT ON ROLE \"o;dd\" IS 'two\nlines; -- no comment';\n\\unrestrict abc\n"
    )
    found = list(statements(text))
    assert found[0] == "CREATE ROLE web" and found[1].endswith("PASSWORD 'SCRAM;''x'") and len(found) == 3
    assert found[2] == "COMMENT ON ROLE \"o;dd\" IS 'two\nlines; -- no comment'"
    assert _is_about("ALTER ROLE postgres WITH SUPERUSER", "postgres") and _is_about('CREATE ROLE "a b"', "a b")
    assert not _is_about("ALTER ROLE postgres_two WITH LOGIN", "postgres")
    assert not _is_about("ALTER ROLE postgres SET work_mem TO '4MB'", "postgres")

"""A real n8n: backed up whole, broken, and brought back under its own ids; nothing twice, nothing active elsewhere."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from engine import backup, names
from engine.catalog import Entry
from engine.config import SiteConfig
from engine.drill.n8n import N8nDrill
from engine.drill.run import DrillRequest, drill
from engine.drill.verdict import FAILED, PROVEN, UNVERIFIED
from engine.errors import ConfirmationNeeded, CredentialsRefused, MissingGrant, RestoreRefused, Unreachable, WrongKey
from engine.journal import Journal
from engine.n8n.instance import Instance
from engine.n8n.parts import _derived
from engine.n8n.plan import N8nRequest, make_plan
from engine.n8n.restore import N8nRestore, run
from engine.restore_site.plan import SiteRequest
from engine.restore_site.points import Piece, Point
from engine.restore_site.services import restore_n8n
from engine.restore_site.state import Done, State
from engine.restore_site.work import Work
from engine.site import Site, Target
from engine.source import Facts
from tests.functional.drilling import orders_for, scratch_left
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers.n8n import N8n

ROOT = Path(__file__).parents[2]
SECRET = "FAKE-value-of-a-credential"
TARGET = Target("n8n", "n8n")


def site_of(root: Path, *instances: dict[str, Any]) -> Site:
    vault = {"root": str(root), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}}
    return Site(SiteConfig.model_validate({"site": "workbench", "vault": vault, "n8n": list(instances)}))


def webhook(name: str, path: str, nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """A workflow that a webhook starts and whose last node answers."""
    start = {
        "id": "1", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0],
        "webhookId": path, "parameters": {"path": path, "httpMethod": "GET", "responseMode": "lastNode"},
    }  # fmt: skip
    chain = [start, *nodes]
    links = {one["name"]: {"main": [[{"node": other["name"], "type": "main", "index": 0}]]}
             for one, other in itertools.pairwise(chain)}  # fmt: skip
    return {"name": name, "nodes": chain, "connections": links, "settings": {"executionOrder": "v1"}}


def says(text: str, number: int = 2) -> dict[str, Any]:
    """A node that gives one field."""
    field = {"id": "a", "name": "said", "value": text, "type": "string"}
    return {
        "id": str(number), "name": f"Set {number}", "type": "n8n-nodes-base.set", "typeVersion": 3.4,
        "position": [number * 200, 0], "parameters": {"assignments": {"assignments": [field]}, "options": {}},
    }  # fmt: skip


def calling(n8n: N8n) -> tuple[str, str]:
    """A workflow, and one that a webhook starts and that calls it; their ids."""
    called = {
        "name": "sub", "settings": {"executionOrder": "v1"},
        "nodes": [
            {"id": "1", "name": "Start", "type": "n8n-nodes-base.executeWorkflowTrigger", "typeVersion": 1.1,
             "position": [0, 0], "parameters": {"inputSource": "passthrough"}},
            says("from the sub-workflow"),
        ],
        "connections": {"Start": {"main": [[{"node": "Set 2", "type": "main", "index": 0}]]}},
    }  # fmt: skip
    sub = str(n8n.api("POST", "/workflows", called)["id"])
    call = {
        "id": "2", "name": "Call", "type": "n8n-nodes-base.executeWorkflow", "typeVersion": 1.2,
        "position": [200, 0],
        "parameters": {"workflowId": {"__rl": True, "mode": "id", "value": sub}, "options": {}},
    }  # fmt: skip
    return sub, str(n8n.api("POST", "/workflows", webhook("caller", "call", [call]))["id"])


@dataclass
class Filled:
    """An n8n with workflows; ids by name."""

    n8n: N8n
    ids: dict[str, str]

    def active(self) -> set[str]:
        return {each["name"] for each in self.n8n.api("GET", "/workflows")["data"] if each["active"]}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """An active webhook that calls a sub-workflow, another that is not active, a tag, two credentials."""
    with N8n(tmp_path_factory.mktemp("n8n") / "a").running() as n8n:
        sub, caller = calling(n8n)
        idle = n8n.api("POST", "/workflows", webhook("idle", "idle", [says("never")]))["id"]
        tag = n8n.api("POST", "/tags", {"name": "production"})["id"]
        n8n.api("PUT", f"/workflows/{caller}/tags", [{"id": tag}])
        n8n.api("POST", "/tags", {"name": "of none"})
        for kind, data in (("httpHeaderAuth", {"name": "X-Token", "value": SECRET}),
                           ("httpBasicAuth", {"user": "me", "password": SECRET})):  # fmt: skip
            n8n.api("POST", "/credentials", {"name": kind, "type": kind, "data": data})
        n8n.api("POST", f"/workflows/{sub}/activate")
        n8n.api("POST", f"/workflows/{caller}/activate")
        assert n8n.webhook("call").json() == {"said": "from the sub-workflow"}
        yield Filled(n8n, {"sub": sub, "caller": caller, "idle": idle})


def test_what_was_lost_and_broken_comes_back_under_its_ids_and_active(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n8n = filled.n8n
    monkeypatch.setattr("engine.n8n.instance.PAGE", 1)
    with site_of(tmp_path / "v", {"name": "n8n", **n8n.document}) as site:
        made = backup.backup_one(site, TARGET, tier="daily")
        assert made.manifest.holds == "3 workflows (2 active), 2 credentials, 2 tags"
        assert made.manifest.contents["active"] == sorted([filled.ids["sub"], filled.ids["caller"]])
        assert made.manifest.contents["version"].startswith("2.") and not made.manifest.incomplete
        assert "every credential opened with n8n's own key" in made.report.checks
        stored = {part.role: part.file for part in made.manifest.files}
        assert set(stored) == {"data", "credentials", "tags", "key"}
        assert b"".join(site.vault.read_part(made.entry, made.manifest, "key")).decode() == n8n.key
        n8n.api("POST", f"/workflows/{filled.ids['caller']}/deactivate")
        n8n.api("POST", f"/workflows/{filled.ids['sub']}/deactivate")
        _drilled(site, made)
        _refused_before_anything_is_imported(filled, tmp_path, monkeypatch)
        assert filled.active() == set(), "a drill makes nothing active, nor does what is refused"
        n8n.api("DELETE", f"/workflows/{filled.ids['caller']}")
        (of_none,) = (each["id"] for each in n8n.api("GET", "/tags")["data"] if each["name"] == "of none")
        n8n.api("DELETE", f"/tags/{of_none}")
        broken = {**webhook("idle", "idle", [says("broken")])}
        n8n.api("PUT", f"/workflows/{filled.ids['idle']}", broken)
        plan = make_plan(site, N8nRequest(activate=True, safety_backup=False))
        assert [each["name"] for each in plan.workflows.new] == ["caller"]
        assert [each["name"] for each in plan.workflows.differing] == ["idle"]
        assert len(plan.workflows.same) == 1 and len(plan.credentials.same) == 2
        with pytest.raises(ConfirmationNeeded, match="workflow idle"):
            run(site, plan)
        done = run(site, plan, approved=True)
        assert (done.workflows, done.credentials, done.same) == (2, 0, 3)
        assert set(done.activated) == {filled.ids["sub"], filled.ids["caller"]}
        assert filled.active() == {"sub", "caller"}
        assert n8n.webhook("call").json() == {"said": "from the sub-workflow"}
        found = n8n.api("GET", "/workflows")["data"]
        assert sorted(each["id"] for each in found) == sorted(filled.ids.values()), "each once"
        assert sorted(each["name"] for each in n8n.api("GET", "/tags")["data"]) == ["of none", "production"]
        assert done.notes == []
        assert [[tag["name"] for tag in each["tags"]] for each in found if each["name"] == "caller"] == [["production"]]
    n8n.api("POST", f"/workflows/{filled.ids['caller']}/deactivate")
    step = _as_restore_site_does(filled, tmp_path, made)
    assert step.said == "3 workflows and 2 credentials, each credential opened; 5 were there"
    found = n8n.api("GET", "/workflows")["data"]
    assert sorted(each["id"] for each in found) == sorted(filled.ids.values()), "restored twice, each once"
    assert filled.active() == {"sub", "caller"}
    refused, restart = step.left
    assert "does not know the API key of n8n" in refused and restart.startswith(f"start n8n at {n8n.url} again")


def _drilled(site: Site, made: backup.BackupResult) -> None:
    """Where there is no n8n to import into, it is read, which proves no restore; a wrong key is found out all the
    same."""
    site.config.n8n[0].command, command = "/nowhere/n8n", site.config.n8n[0].command
    (piece,) = drill(site, DrillRequest()).pieces()
    (lacking,) = (check for check in piece.checks if check.verdict != PROVEN)
    assert piece.verdict == UNVERIFIED and {check.rung for check in piece.checks} == {"opens"}
    assert "imported into no n8n: /nowhere/n8n is not on this host (next: set command of n8n" in lacking.said
    site.config.drill.not_restored = ["n8n"]
    waived = drill(site, DrillRequest())
    assert waived.verdict == PROVEN and waived.pieces()[0].waived and not waived.pieces()[0].restored
    site.config.drill.not_restored = []
    wrong = sealed_with(site, made, key=b"FAKE-another-key-0123456789")
    result = drill(site, DrillRequest())
    assert result.verdict == FAILED and "does not open the credential 'http" in result.sentence()
    site.config.n8n[0].command = command
    for key in (wrong.manifest_key, wrong.key):
        site.vault.store("local").delete(key)


def sealed_with(site: Site, made: backup.BackupResult, **parts: bytes) -> Entry:
    """A newer backup, properly signed, with other parts than the one that was made."""
    with site.vault.begin(source="n8n", kind="n8n", tier="manual", database="n8n", ext="json") as writer:
        for part in made.manifest.files:
            data = parts.get(part.role) or b"".join(site.vault.read_part(made.entry, made.manifest, part.role))
            ext = "txt" if part.role == "key" else "json"
            (writer.data() if part.role == "data" else writer.companion(part.role, ext)).write(data)
        assert made.manifest.server is not None
        facts = Facts(made.manifest.server, made.manifest.dump_format, contents=made.manifest.contents)
        return writer.publish(facts)[0]


@pytest.mark.soak(sample=False)
def test_a_drill_imports_into_an_n8n_that_is_never_started_and_has_it_open_every_credential(
    filled: Filled, tmp_path: Path
) -> None:
    with site_of(tmp_path / "v", {"name": "n8n", **filled.n8n.document}) as site:
        made = backup.backup_one(site, TARGET, tier="daily")
        result = drill(site, DrillRequest())
        (piece,) = result.pieces()
        said = {check.what: check.said for check in piece.checks}
        assert result.verdict == PROVEN and scratch_left(site) == [], piece.checks
        assert result.sources[0].place.startswith(f"a scratch n8n {made.manifest.contents['version']} in ")
        assert said["workflows"] == "exported again, each as it was, with its tags; 1 tag of no workflow only read"
        assert said["credentials"].startswith("2 credentials opened by n8n itself and compared: httpBasicAuth")
        assert said["nothing active"] == "every workflow came in inactive"


@pytest.mark.soak(sample=False)
def test_what_n8n_itself_does_not_open_is_named_and_a_killed_drill_leaves_nothing(
    filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site_of(tmp_path / "v", {"name": "n8n", **filled.n8n.document}) as site:
        backup.backup_one(site, TARGET, tier="daily")
        before, original = filled.active(), N8nDrill.restore

        def tampering(self: Any, place: Any, *rest: Any) -> Any:
            notes = original(self, place, *rest)
            instance, parts = place.restored["n8n"]
            (basic,) = (each for each in parts.credentials if each["type"] == "httpBasicAuth")
            instance.bring_in("credentials", [basic | {"data": closed("{}", "FAKE-another-key")}])
            idle = next(each for each in parts.workflows if each["name"] == "idle")
            instance.bring_in("workflow", [idle | {"name": "otherwise"}])
            return notes

        with monkeypatch.context() as patched:
            patched.setattr(N8nDrill, "restore", tampering)
            result = drill(site, DrillRequest())
        (piece,) = result.pieces()
        wrong = {check.what: check.problems for check in piece.checks if check.verdict == FAILED}
        assert wrong == {
            "workflows": ("workflow 'idle' is otherwise",),
            "credentials": ("credential 'httpBasicAuth' (httpBasicAuth) is not opened by the encryption key",),
        }
        assert SECRET not in str(result.as_dict()) and scratch_left(site) == []
        document = json.loads(orders_for(site.config, "n8n"))
        document["site"]["n8n"][0] |= {"api_key": filled.n8n.api_key, "encryption_key": filled.n8n.key}
        done = subprocess.run(
            [sys.executable, "-m", "tests.functional.dying_drill"], input=json.dumps(document).encode(),
            capture_output=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL and len(scratch_left(site)) == 2, done.stderr.decode()
        swept = site.sweep()
        assert swept.problems == [] and scratch_left(site) == [] and filled.active() == before


def closed(text: str, key: str) -> str:
    """A credential's data as n8n writes it, with that key."""
    salt = os.urandom(8)
    secret, vector = _derived(key.encode(), salt)
    writer = Cipher(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    end = 16 - len(text) % 16
    sealed = writer.update(text.encode() + bytes([end]) * end) + writer.finalize()
    return base64.b64encode(b"Salted__" + salt + sealed).decode()


def _as_restore_site_does(filled: Filled, folder: Path, made: backup.BackupResult) -> Done:
    """The step of a machine's restore, for an n8n that is new: it does not know the API key that was used before."""
    piece = Piece(TARGET, [(made.entry, made.manifest)])
    point = Point("20260101_000000-00000000", names.now(), {TARGET: piece})
    state = State.begin(folder, site="workbench", point=point.id, request={})
    with site_of(folder / "v", {"name": "n8n", **filled.n8n.document, "api_key": "FAKE-key"}) as site:
        return restore_n8n(Work(site, SiteRequest(), point, state, key="n8n/n8n"), piece)


def _refused_before_anything_is_imported(filled: Filled, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key, an older n8n, and being made active elsewhere."""
    wrong = {**N8n(folder / "c", key="FAKE-another-key-0123456789").document, "name": "wrong"}
    trial = {**N8n(folder / "b").document, "name": "trial"}
    with site_of(folder / "v", {"name": "n8n", **filled.n8n.document}, trial, wrong) as site:
        with pytest.raises(WrongKey, match="does not open the credential"):
            make_plan(site, N8nRequest("n8n", into="wrong"))
        with pytest.raises(RestoreRefused, match="never made active in trial"):
            make_plan(site, N8nRequest("n8n", into="trial", activate=True))
        with monkeypatch.context() as patched:
            patched.setattr(Instance, "version", lambda self: "1.9.3")
            with pytest.raises(RestoreRefused, match="is n8n 1.9.3, older than"):
                make_plan(site, N8nRequest("n8n", into="trial"))


def test_what_a_dead_restore_left_inactive_is_active_after_the_next_sweep(filled: Filled, tmp_path: Path) -> None:
    """Unless it had come in, as it was to be: inactive, also where others are to be active."""
    caller, n8n = filled.ids["caller"], filled.n8n
    others = [filled.ids["sub"]]
    version = n8n.api("GET", f"/workflows/{caller}")["versionId"]
    with site_of(tmp_path / "v", {"name": "n8n", **n8n.document}) as site:
        for halted, activate, active in (
            (version, [], True), ("another", [], False), ("another", others, False), ("another", True, False),
            (version, others, True), ("another", [*others, caller], True),
        ):  # fmt: skip
            n8n.api("POST", f"/workflows/{caller}/deactivate")
            Journal.create(
                site.journals, "n8n-restore", source="n8n", database="n8n", halted={caller: halted}, activate=activate
            ).release()
            swept = site.sweep()
            assert swept.problems == [] and ("caller" in filled.active()) is active
            assert any("'caller' of n8n active again" in line for line in swept.done) is active
            assert site.sweep().done == []


@pytest.mark.sampled
def test_a_restore_that_died_makes_nothing_active_that_was_not_when_it_was_backed_up(
    filled: Filled, tmp_path: Path
) -> None:
    n8n, idle, sub = filled.n8n, filled.ids["idle"], filled.ids["sub"]
    with site_of(tmp_path / "v", {"name": "n8n", **n8n.document}) as site:
        backup.backup_one(site, TARGET, tier="daily")
        assert filled.active() == {"sub", "caller"}
        for each in (idle, sub):
            found = n8n.api("GET", f"/workflows/{each}")
            n8n.api("PUT", f"/workflows/{each}", {
                "name": f"{found['name']} now", "nodes": found["nodes"], "connections": found["connections"],
                "settings": {"executionOrder": "v1"},
            })  # fmt: skip
            n8n.api("POST", f"/workflows/{each}/activate")
        assert {"idle now", "sub now"} <= filled.active()
        plan = make_plan(site, N8nRequest(activate=True, safety_backup=False))
        assert set(plan.halted) == {idle, sub} and idle not in plan.activated and sub in plan.activated
        with pytest.raises(KeyboardInterrupt), N8nRestore(site, plan, approved=True) as work:
            work.bring_in()
            raise KeyboardInterrupt
        assert not {"idle", "sub"} & filled.active(), "imported, and inactive"
        swept = site.sweep()
        assert swept.problems == [] and [line for line in swept.done if "active again" in line] == [
            "made workflow 'sub' of n8n active again"
        ]
        assert filled.active() == {"sub", "caller"}


@pytest.mark.soak(sample=False)
def test_another_n8n_gets_everything_inactive(filled: Filled, tmp_path: Path) -> None:
    fresh = N8n(tmp_path / "b")
    instances = ({"name": "n8n", **filled.n8n.document}, {"name": "trial", **fresh.document})
    with site_of(tmp_path / "v", *instances) as site:
        backup.backup_one(site, TARGET, tier="daily")
        plan = make_plan(site, N8nRequest("n8n", into="trial"))
        assert (len(plan.workflows.new), len(plan.credentials.new), plan.activated) == (3, 2, [])
        done = run(site, plan)
        assert (done.workflows, done.credentials, done.activated) == (3, 2, [])
    with fresh.running():
        there = fresh.api("GET", "/workflows")["data"]
        assert {each["id"] for each in there} == set(filled.ids.values())
        assert not any(each["active"] for each in there), "nothing is ever made active elsewhere"
        assert SECRET not in str(there)


@pytest.mark.sampled
def test_keys_and_scopes_that_do_not_do_are_told_in_words(filled: Filled, tmp_path: Path) -> None:
    given = {"name": "n8n", **filled.n8n.document}
    with site_of(tmp_path / "v", {**given, "api_key": filled.n8n.new_api_key(["tag:list"])}) as site:
        with pytest.raises(MissingGrant, match="lacks the scope workflow:list") as told:
            backup.preflight(site, TARGET)
        assert "workflow:activate" in told.value.remedy
    with site_of(tmp_path / "v", {**given, "api_key": "FAKE-key"}) as site:
        with pytest.raises(CredentialsRefused, match="does not know the API key") as refused:
            backup.preflight(site, TARGET)
        assert "FAKE-key" not in str(refused.value)
    with site_of(tmp_path / "v", {**given, "url": "http://127.0.0.1:1"}) as site:
        with pytest.raises(Unreachable, match="does not answer"):
            backup.preflight(site, TARGET)

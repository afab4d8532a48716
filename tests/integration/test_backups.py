"""Backups through deployments, a server with a password and a worker."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

from deployments import site_file
from deployments.api import Run
from engine.errors import BackupError
from engine.site import Site as Opened
from tests.integration.installation import Installation, Site, until

COMMON = True


def test_a_daily_full_leaves_backups_copies_a_table_and_a_short_log(prefect: Installation, site: Site) -> None:
    before = len(site.files(".json"))
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert run.name == f"daily full backup of {site.name}"
    assert "2 databases backed up and verified" in run.first_line and "4,400 rows" in run.first_line
    rows = prefect.table(run, f"{site.name}-backups")
    assert {row["database"] for row in rows} == {f"mysql/{site.shop}", f"postgres/{site.platform}"}
    for row in rows:
        assert row["stored where"] == "local, s3"
        assert row["verified how"].startswith("local: ") and "s3: " in row["verified how"]
        assert row["size"] and row["duration"] and row["rate"].endswith("/s")
    assert rows[0]["holds"] == "2 tables, 2,100 rows" and rows[1]["holds"] == "2 tables, 2,300 rows"
    log = prefect.log(run)
    assert any("dumped" in line and site.shop in line for line in log)
    assert any("copied to s3" in line for line in log)
    assert len(log) < 25, "\n".join(log)
    dump = f"dump {site.name}/mysql/{site.shop} (daily)"
    until(lambda: dump in [task["name"] for task in prefect.api.tasks(run.id)], "the dump among the tasks")
    assert len(site.files(".json")) == before + 2


@pytest.mark.soak(sample=False)
def test_watch_on_the_command_line_ends_with_0_or_1(prefect: Installation, site: Site) -> None:
    done = prefect.prefect(
        "deployment",
        "run",
        f"manual-backup/{site.name}",
        "--watch",
        "--param",
        "label=before the move",
        "--param",
        "source=postgres",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    newest = max(site.files(".json"), key=lambda each: each.stat().st_mtime)
    assert json.loads(newest.read_text())["label"] == "before the move"
    unknown = site.shop[:-1]
    ask = ("--watch", "--param", f"database={unknown}")
    done = prefect.prefect("deployment", "run", f"manual-backup/{site.name}", *ask)
    assert done.returncode == 1
    failed = {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}, "limit": 1, "sort": "END_TIME_DESC"}
    (run,) = prefect.api.call("POST", "/flow_runs/filter", failed)
    assert run["parameters"]["database"] == unknown
    assert unknown in run["state"]["message"].splitlines()[0] and site.shop in run["state"]["message"]


@pytest.mark.sampled
def test_a_run_waits_for_another_that_works_on_the_same_database(prefect: Installation, site: Site) -> None:
    """Schedules meet: the night's full is not lost to an hourly backup that began first."""
    with Opened(site_file.load(site.file, site.env)) as opened, opened.vault.lock("mysql", site.shop):
        run_id = prefect.api.start(f"manual-backup/{site.name}", source="mysql")
        until(lambda: any("Another run works on" in line for line in prefect.api.logs(run_id)), "the wait")
        time.sleep(15)  # longer than its tries
        assert prefect.api.run(run_id).state == "RUNNING"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert f"process {os.getpid()} on " in "\n".join(prefect.log(run))


@pytest.mark.sampled
def test_an_unknown_site_fails_in_words(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"manual-backup/{site.name}", site="not-a-site")
    assert run.state == "FAILED" and run.first_line == "There is no site called 'not-a-site'."


def test_a_parameter_of_the_wrong_form_is_refused_before_a_run_exists(prefect: Installation, site: Site) -> None:
    with pytest.raises(BackupError, match="4(09|22)"):
        prefect.api.start(f"manual-backup/{site.name}", site="Not A Site")
    with pytest.raises(BackupError, match="4(09|22)"):
        prefect.api.start(f"restore-database/{site.name}", source="mysql")


def _edit(prefect: Installation, block: str, **data: Any) -> None:
    """A block's fields, as a person changes them in the UI."""
    slug, _, name = block.partition("/")
    document = prefect.api.call("GET", f"/block_types/slug/{slug}/block_documents/name/{name}")
    prefect.api.call("PATCH", f"/block_documents/{document['id']}", {"data": data})


def _failed_tasks(prefect: Installation, run: Run) -> list[dict[str, Any]]:
    """They are written down a moment after the run's own end."""
    return until(
        lambda: [task for task in prefect.api.tasks(run.id) if task["state_type"] == "FAILED"], "the failed tasks"
    )


@pytest.mark.sampled
def test_a_dead_bucket_costs_no_dump_and_the_next_run_catches_up(prefect: Installation, site: Site) -> None:
    before = set(site.files(".json"))
    _edit(prefect, f"object-store/{site.name}-s3", endpoint_url="http://127.0.0.1:9")
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "FAILED"
    assert run.first_line.startswith("Copy missing at s3 (")
    made = set(site.files(".json")) - before
    assert len(made) == 2 and all(file.name.removesuffix(".json") in run.message for file in made)
    rows = prefect.table(run, f"{site.name}-backups")
    assert all("MISSING at s3" in row["stored where"] for row in rows)

    _edit(prefect, f"object-store/{site.name}-s3", endpoint_url=prefect.s3.endpoint)
    run = prefect.run(f"hourly-db/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 copies caught up" in run.first_line
    listed = prefect.s3.client().list_objects_v2(Bucket=site.bucket)["Contents"]
    aside = ("marks/", "site-file/")
    copied = [each for each in listed if each["Key"].endswith(".json") and not any(at in each["Key"] for at in aside)]
    assert len(copied) == len(site.files(".json"))


@pytest.mark.sampled
def test_a_wrong_password_fails_at_once_in_words_costs_only_its_own_server_and_is_rotated_without_deploying_again(
    prefect: Installation, site: Site
) -> None:
    before = len(site.files(".json"))
    _edit(prefect, f"mysql-server/{site.name}-mysql", password="FAKE-wrong-password-1")
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "FAILED"
    assert run.first_line.startswith("mysql is not backed up: "), run.message
    assert "FAKE-wrong-password-1" not in run.message
    failed = _failed_tasks(prefect, run)
    assert all(task["run_count"] == 1 for task in failed), "wrong credentials are not tried again"
    assert len(site.files(".json")) == before + 1, "PostgreSQL was backed up all the same"
    _edit(prefect, f"mysql-server/{site.name}-mysql", password=prefect.mariadb.password)
    run = prefect.run(f"manual-backup/{site.name}", source="mysql")
    assert run.state == "COMPLETED", run.message


@pytest.mark.sampled
def test_a_wrong_s3_secret_fails_at_once_in_words(prefect: Installation, site: Site) -> None:
    _edit(prefect, f"object-store/{site.name}-s3", secret_key="FAKE-wrong-secret-of-s3-0123456789")
    run = prefect.run(f"daily-full/{site.name}")
    _edit(prefect, f"object-store/{site.name}-s3", secret_key=prefect.s3.secret_key)
    assert run.state == "FAILED" and run.first_line.startswith("Copy missing at s3 (")
    assert all(task["run_count"] == 1 for task in _failed_tasks(prefect, run))
    assert "FAKE-wrong-secret" not in run.message + "\n".join(prefect.log(run))


def test_no_secret_reaches_the_server_s_logs_runs_artifacts_or_files(prefect: Installation, site: Site) -> None:
    call = prefect.api.call
    logs = call("POST", "/logs/filter", {"limit": 200})
    shown = json.dumps(
        [
            logs,
            call("POST", "/flow_runs/filter", {}),
            call("POST", "/artifacts/filter", {}),
            call("POST", "/deployments/filter", {}),
            call("POST", "/task_runs/filter", {}),
        ]
    )
    kept = b"".join(
        each.read_bytes()
        for each in prefect.server.home.rglob("*")
        if each.is_file() and each.name not in {"secrets.json", "client.env"}
    )
    assert site.name in shown and site.name.encode() in kept
    for secret in site.env.values():
        assert secret not in shown
        assert secret.encode() not in kept

"""Backups through deployments, a server with a password and a worker."""

from __future__ import annotations

import json

import pytest

from engine.errors import BackupError
from tests.integration.installation import Installation, Site


def test_a_daily_full_leaves_backups_copies_a_table_and_a_short_log(prefect: Installation, site: Site) -> None:
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
    assert len(log) < 80, "\n".join(log)
    tasks = [task["name"] for task in prefect.api.tasks(run.id)]
    assert f"dump {site.name}/mysql/{site.shop} (daily)" in tasks
    assert len(site.files(".json")) == 2


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
    done = prefect.prefect("deployment", "run", f"manual-backup/{site.name}", "--watch", "--param", "database=nowhere")
    assert done.returncode == 1


def test_an_unknown_database_source_or_site_fails_in_words(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"manual-backup/{site.name}", database=site.shop[:-1])
    assert run.state == "FAILED"
    assert site.shop[:-1] in run.first_line and site.shop in run.message
    run = prefect.run(f"manual-backup/{site.name}", source="mysq")
    assert run.state == "FAILED" and "no source 'mysq'" in run.first_line and "'mysql'" in run.message
    run = prefect.run(f"manual-backup/{site.name}", site="not-a-site")
    assert run.state == "FAILED" and run.first_line == "There is no site called 'not-a-site'."


def test_a_parameter_of_the_wrong_form_is_refused_before_a_run_exists(prefect: Installation, site: Site) -> None:
    with pytest.raises(BackupError, match="4(09|22)"):
        prefect.api.start(f"manual-backup/{site.name}", site="Not A Site")
    with pytest.raises(BackupError, match="4(09|22)"):
        prefect.api.start(f"restore-database/{site.name}", source="mysql")


def test_a_dead_bucket_costs_no_dump_and_the_next_run_catches_up(prefect: Installation) -> None:
    site = prefect.site("deadbucket")
    replica = site.document["vault"]["replicas"][0]
    alive = replica["endpoint_url"]
    replica["endpoint_url"] = "http://127.0.0.1:9"
    site.write()
    assert prefect.apply(site).returncode == 0
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "FAILED"
    assert run.first_line.startswith("Copy missing at s3 (")
    assert len(site.files(".json")) == 2
    for file in site.files(".json"):
        assert file.name.removesuffix(".json") in run.message
    rows = prefect.table(run, f"{site.name}-backups")
    assert all("MISSING at s3" in row["stored where"] for row in rows)

    replica["endpoint_url"] = alive
    site.write()
    assert prefect.apply(site).returncode == 0
    run = prefect.run(f"hourly-db/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 copies caught up" in run.first_line
    listed = prefect.s3.client().list_objects_v2(Bucket=site.bucket)["Contents"]
    assert len([each for each in listed if each["Key"].endswith(".json") and "marks/" not in each["Key"]]) == 4


def test_a_wrong_password_fails_at_once_in_words_and_costs_only_its_own_server(prefect: Installation) -> None:
    site = prefect.site("wrongpw")
    site.env["ITEST_MARIADB"] = "FAKE-wrong-password-1"
    assert prefect.apply(site).returncode == 0
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "FAILED"
    assert run.first_line.startswith("mysql is not backed up: "), run.message
    assert "FAKE-wrong-password-1" not in run.message
    failed = [task for task in prefect.api.tasks(run.id) if task["state_type"] == "FAILED"]
    assert failed and all(task["run_count"] == 1 for task in failed), "wrong credentials are not tried again"
    assert len(site.files(".json")) == 1, "PostgreSQL was backed up all the same"


def test_a_wrong_s3_secret_fails_at_once_in_words(prefect: Installation) -> None:
    site = prefect.site("wrongs3")
    site.env["ITEST_S3_SECRET"] = "FAKE-wrong-secret-of-s3-0123456789"
    assert prefect.apply(site).returncode == 0
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "FAILED" and run.first_line.startswith("Copy missing at s3 (")
    failed = [task for task in prefect.api.tasks(run.id) if task["state_type"] == "FAILED"]
    assert failed and all(task["run_count"] == 1 for task in failed)
    assert "FAKE-wrong-secret" not in run.message + "\n".join(prefect.log(run))


def test_a_rotated_password_is_used_by_the_next_run_without_deploying_again(prefect: Installation) -> None:
    site = prefect.site("rotated")
    site.env["ITEST_POSTGRES"] = "FAKE-old-password"
    assert prefect.apply(site).returncode == 0
    assert prefect.run(f"manual-backup/{site.name}", source="postgres").state == "FAILED"
    document = prefect.api.call("GET", f"/block_types/slug/postgres-server/block_documents/name/{site.name}-postgres")
    right = prefect.postgres.password
    prefect.api.call("PATCH", f"/block_documents/{document['id']}", {"data": {"password": right}})
    run = prefect.run(f"manual-backup/{site.name}", source="postgres")
    assert run.state == "COMPLETED", run.message


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

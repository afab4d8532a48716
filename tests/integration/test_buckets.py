"""A site with a bucket: its deployments back it up beside the databases, and put objects back with approval."""

from __future__ import annotations

import pytest

from tests.functional.bucket_machine import source
from tests.integration.installation import Installation
from tests.servers.s3 import S3Server

pytestmark = pytest.mark.soak(sample=False)


def test_a_bucket_is_backed_up_with_the_rest_and_an_object_overwritten_after_an_approval(
    prefect: Installation, rclone_s3: S3Server
) -> None:
    client, bucket = rclone_s3.client(), rclone_s3.new_bucket("uploads")
    for key in ("a.txt", "folder/b.txt"):
        client.put_object(Bucket=bucket, Key=key, Body=f"good {key}".encode(), ContentType="text/x-good")
    site = prefect.site("buckets")
    given = source(rclone_s3, bucket, name="buckets")
    site.document["buckets"] = {**given, "secret_key": "${ITEST_S3_SECRET}"}
    site.write()
    done = prefect.apply(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"bucket-endpoint/{site.name}-buckets" in done.stdout

    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message
    assert "2 databases and 1 bucket backed up and verified: 4,400 rows, 2 objects" in run.first_line
    rows = prefect.table(run, f"{site.name}-backups")
    assert rows[2]["database"] == f"buckets/{bucket}" and rows[2]["stored where"] == "local, s3"

    client.put_object(Bucket=bucket, Key="a.txt", Body=b"bad")
    run_id = prefect.api.start(f"restore-bucket/{site.name}", bucket=bucket, into=bucket)
    assert prefect.api.wait(run_id, until=frozenset({"PAUSED"})).state == "PAUSED"
    assert "| `a.txt` |" in prefect.markdown(run_id, f"{site.name}-restore-bucket-approval")
    assert client.get_object(Bucket=bucket, Key="a.txt")["Body"].read() == b"bad"
    assert prefect.api.approve(run_id, confirm=bucket)["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert "1 object written, 1 left as they were" in run.first_line
    assert client.get_object(Bucket=bucket, Key="a.txt")["Body"].read() == b"good a.txt"
    assert "safety snapshot: `" in prefect.markdown(run_id, f"{site.name}-restore-bucket")
    assert rclone_s3.secret_key not in "\n".join(prefect.log(run))

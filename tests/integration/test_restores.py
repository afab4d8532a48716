"""Restores through deployments: beside, in place, approved over HTTP, refused in words."""

from __future__ import annotations

import pytest

from tests.integration.installation import Installation, Site

COMMON = True


@pytest.fixture(scope="module", autouse=True)
def backed_up(prefect: Installation, site: Site) -> None:
    run = prefect.run(f"daily-full/{site.name}")
    assert run.state == "COMPLETED", run.message


def _orders(prefect: Installation, database: str) -> list[tuple[str | None, ...]]:
    return prefect.mariadb.sql("SELECT * FROM orders ORDER BY id", database)


def _readings(prefect: Installation, database: str) -> list[tuple[str | None, ...]]:
    return prefect.postgres.sql("SELECT * FROM bronze.readings ORDER BY id", database)


def test_by_default_a_restore_stands_beside_and_production_is_untouched(prefect: Installation, site: Site) -> None:
    before = _orders(prefect, site.shop)
    run = prefect.run(f"restore-database/{site.name}", source="mysql", database=site.shop)
    assert run.state == "COMPLETED", run.message
    assert "2,100 of 2,100 rows" in run.first_line
    side = run.first_line.split(" is back as ")[1].split(":")[0]
    assert side != site.shop and _orders(prefect, side) == before == _orders(prefect, site.shop)
    prefect.mariadb.sql(f"DROP DATABASE `{side}`")


@pytest.mark.sampled
def test_a_dry_run_prints_the_plan_and_changes_nothing(prefect: Installation, site: Site) -> None:
    before = prefect.postgres.sql("SELECT datname FROM pg_database ORDER BY 1")
    run = prefect.run(
        f"restore-database/{site.name}", source="postgres", database=site.platform, into=site.platform, dry_run=True
    )
    assert run.state == "COMPLETED" and run.first_line.startswith("Plan only, nothing was changed")
    plan = prefect.markdown(run.id, f"{site.name}-restore-plan")
    assert "REPLACES" in plan and "2,300 rows" in plan and "| bronze.readings | 2,000 | 2,000 |" in plan
    assert prefect.postgres.sql("SELECT datname FROM pg_database ORDER BY 1") == before


@pytest.mark.sampled
@pytest.mark.parametrize("source", ["mysql", "postgres"])
def test_dropped_data_comes_back_in_place_with_confirm(prefect: Installation, site: Site, source: str) -> None:
    database = site.shop if source == "mysql" else site.platform
    read = _orders if source == "mysql" else _readings
    before = read(prefect, database)
    if source == "mysql":
        prefect.mariadb.sql("DROP TABLE orders", database)
    else:
        prefect.postgres.sql(f"DROP DATABASE {database} WITH (FORCE)")
    run = prefect.run(
        f"restore-database/{site.name}", source=source, database=database, into=database, confirm=database
    )
    assert run.state == "COMPLETED", run.message
    assert read(prefect, database) == before
    text = prefect.markdown(run.id, f"{site.name}-restore")
    if source == "mysql":
        assert "safety backup" in text and "_before_" in text


@pytest.mark.sampled
def test_a_replacement_waits_for_approval_that_shows_what_is_replaced_by_what(
    prefect: Installation, site: Site
) -> None:
    prefect.mariadb.sql("DELETE FROM orders WHERE id > 500", site.shop)
    run_id = prefect.api.start(f"restore-database/{site.name}", source="mysql", database=site.shop, into=site.shop)
    run = prefect.api.wait(run_id, until=frozenset({"PAUSED"}))
    assert run.state == "PAUSED"
    text = prefect.markdown(run_id, f"{site.name}-restore-approval")
    assert "| rows | 600 | 2,100 |" in text and " old, taken " in text and "| size |" in text
    assert len(_orders(prefect, site.shop)) == 500, "nothing happens before the approval"
    assert prefect.api.approve(run_id, wrong="field")["status"] == "REJECT"
    assert prefect.api.approve(run_id, confirm=site.shop)["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "COMPLETED", run.message
    assert len(_orders(prefect, site.shop)) == 2000


@pytest.mark.sampled
def test_a_wrong_confirmation_is_refused_in_words_and_latest_is_not_the_safety_copy_of_the_damaged_database(
    prefect: Installation, site: Site
) -> None:
    """Of two replacements before, the newest backups are such copies."""
    before = _orders(prefect, site.shop)
    run_id = prefect.api.start(f"restore-database/{site.name}", source="mysql", database=site.shop, into=site.shop)
    prefect.api.wait(run_id, until=frozenset({"PAUSED"}))
    assert "2,100 rows" in prefect.markdown(run_id, f"{site.name}-restore-plan")
    assert prefect.api.approve(run_id, confirm="shop?")["status"] == "ACCEPT"
    run = prefect.api.wait(run_id)
    assert run.state == "FAILED" and "'shop?' is not the name" in run.first_line
    assert "nothing was changed" in run.message
    assert _orders(prefect, site.shop) == before


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"backup": "before 2025-01-16 02:00"}, "has no zone"),
        ({"backup": "nothing_20250101_000000.sql.gz.enc"}, "nothing_20250101_000000.sql.gz.enc"),
        ({"location": "s4"}, "s4"),
        ({"source": "oracle"}, "oracle"),
        ({"database": "nowhere"}, "nowhere"),
    ],
)
def test_a_restore_that_cannot_be_says_why_in_its_first_line(
    prefect: Installation, site: Site, given: dict[str, str], words: str
) -> None:
    run = prefect.run(f"restore-database/{site.name}", **{"source": "mysql", "database": site.shop, **given})
    assert run.state == "FAILED" and words in run.first_line, run.message


@pytest.mark.sampled
def test_from_the_bucket_alone_the_same_restore_works(prefect: Installation, site: Site) -> None:
    before = _readings(prefect, site.platform)
    run = prefect.run(f"restore-database/{site.name}", source="postgres", database=site.platform, location="s3")
    assert run.state == "COMPLETED", run.message
    side = run.first_line.split(" is back as ")[1].split(":")[0]
    assert _readings(prefect, side) == before

"""A backup says what its recovery point has to hold, also when it is made alone. On a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import names
from engine.backup import backup_one
from engine.config import SiteConfig
from engine.errors import RestoreRefused
from engine.restore_site.points import expected_of, search
from engine.site import Site, Target
from tests.functional.vault_helpers import PASSPHRASE
from tests.servers import DatabaseServer


@pytest.mark.parametrize("kind", ["mysql", "postgres"])
def test_one_database_of_a_server_whose_databases_are_not_named_makes_no_recovery_point(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server: DatabaseServer = request.getfixturevalue("mariadb" if kind == "mysql" else "postgres15")
    body = {
        "site": "shop", "vault": {"root": str(tmp_path), "keys": {"current": "main", "keys": {"main": PASSPHRASE}}},
        kind: {"host": server.host, "port": server.port, "user": server.user, "password": server.password},
    }  # fmt: skip
    with server.database("orders") as orders, server.database("users") as users:
        with Site(SiteConfig.model_validate(body)) as site:
            for name in (orders, users):
                server.sql("CREATE TABLE t (id int PRIMARY KEY)", name)
            made = backup_one(site, Target(kind, orders), tier="manual", recovery_point=names.recovery_point())
            told = made.manifest.contents["point"]
            assert told["sources"] == [kind] and {orders, users} <= set(told["databases"])
            assert "point" not in backup_one(site, Target(kind, orders), tier="manual").manifest.contents
            with pytest.raises(RestoreRefused, match=f"{kind}/{users} is not in it"):
                search(site, expected_of(site))

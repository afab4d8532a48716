"""Roles, memberships and tablespaces: they belong to the whole server, and go beside every dump."""

from __future__ import annotations

from engine.errors import IntegrityError
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.tools import Tools
from engine.source import Sink

_END = b"-- PostgreSQL database cluster dump complete"


def capture(connector: Connector, tools: Tools, connection: Connection, sink: Sink) -> list[str]:
    """Write ``pg_dumpall --globals-only``. Returns warnings.

    Raises:
        IntegrityError: It ended without its end marker.
    """
    warnings, options = [], ["--globals-only", "--no-password"]
    with translated("asking for one's own rights"):
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if not (superuser and superuser[0]):
        options.append("--no-role-passwords")
        warnings.append(f"Role passwords are not in this backup: user {connector.config.user!r} is no superuser.")
    database = connector.config.maintenance_database
    command = tools.command("pg_dumpall", *options, f"--database={database}", env=connector.tool_environment(database))
    tail = b""
    with tools.runner.start(command, timeout=600) as process:
        for chunk in process.chunks():
            sink.write(chunk)
            tail = (tail + chunk)[-1024:]
        process.wait()
    if _END not in tail:
        raise IntegrityError("pg_dumpall ended without its end marker: the roles are not whole.")
    return warnings

"""Loading a backup into a new side database, so that production cannot notice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from engine.errors import BackupError, MissingGrant, RestoreRefused
from engine.journal import Journal
from engine.manifest import Manifest
from engine.postgres import search_path, sides
from engine.postgres.connection import Connection, Connector, translated
from engine.postgres.converter import Converter
from engine.postgres.feed import Feed, RoleFinder
from engine.postgres.properties import Properties
from engine.postgres.quoting import conninfo, ident
from engine.postgres.selection import Chosen
from engine.postgres.tools import Tools
from engine.processes import Command, LocalRunner, Process
from engine.progress import Progress
from engine.source import OpenPart, Selection


class Loader:
    """One restore into one side database.

    Args:
        fallback: Properties to create it with when the backup came without any (an adopted file).
    """

    def __init__(
        self, connector: Connector, tools: Tools, journal: Journal, into: str, fallback: Properties | None
    ) -> None:
        self._connector = connector
        self._tools = tools
        self._journal = journal
        self._into = into
        self._fallback = fallback
        self._token = sides.token_of(journal)
        self._notes: list[str] = []

    def run(self, manifest: Manifest, part: OpenPart, selection: Selection, progress: Progress) -> list[str]:
        """Create it, fill it, gather its statistics. Returns notes for a person."""
        chosen = Chosen.of(manifest, selection)
        _refuse_nothing(manifest, chosen)
        properties = manifest.contents.get("properties") or self._fallback
        with self._connector.open(self._connector.maintenance_for(self._into), token=self._token) as connection:
            self._may_create(connection)
            sides.create(connection, self._journal, self._into, properties)
            self._make_roles(connection, _roles(manifest, part, properties))
            options = session_options(connection)
        self._make_extensions(manifest)
        self._journal.record("load-data", database=self._into)
        try:
            if manifest.dump_format == "pg_custom" and chosen.everything:
                self._restore_in_parallel(manifest, part, options, progress)
            else:
                self._feed(manifest, part, chosen, options, progress)
        except BackupError as error:
            explained = search_path.explained(error)
            if explained is error:
                raise
            raise explained from None
        if not chosen.everything:
            self._notes.append(
                "A part was asked for: every definition is there, but rows only of the chosen tables; "
                "the other tables are empty."
            )
        with (
            self._connector.open(self._into, token=self._token, options=options) as inside,
            translated("gathering statistics"),
        ):
            self._about_what_acts(inside)
            inside.execute("ANALYZE")
        self._journal.record("load-loaded", database=self._into)
        return self._notes

    def _may_create(self, connection: Connection) -> None:
        with translated("asking for one's own rights"):
            row = connection.execute(
                "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
        if not (row and row[0]):
            user = connection.info.user
            raise MissingGrant(
                f"User {user!r} may not create the side database {self._into}.",
                kept="nothing was made",
                remedy=f"ALTER ROLE {ident(user)} CREATEDB;",
            )

    def _make_roles(self, connection: Connection, wanted: list[str]) -> None:
        with translated("creating missing roles"):
            known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
            missing = [role for role in wanted if role not in known and not role.startswith("pg_")]
            for role in missing:
                self._journal.record("load-role", role=role)
                connection.execute(f"CREATE ROLE {ident(role)} NOLOGIN")
        if missing:
            self._notes.append(
                "Roles that were missing were created without login, password or memberships "
                f"(the backup's globals hold them): {', '.join(missing)}."
            )

    def _make_extensions(self, manifest: Manifest) -> None:
        """A dump of single schemas leaves extensions out, though its tables may use their types."""
        extensions = manifest.contents.get("extensions", []) if manifest.contents.get("schemas") else []
        if not extensions:
            return
        with self._connector.open(self._into, token=self._token) as inside, translated("creating extensions"):
            for each in extensions:
                own = each["schema"] in manifest.contents["schemas"] and each["schema"] != "public"
                if own:  # the dump creates that schema itself
                    self._notes.append(
                        f"Extension {each['name']} lives in a dumped schema and was not created beforehand."
                    )
                    continue
                for statement in (
                    f"CREATE SCHEMA IF NOT EXISTS {ident(each['schema'])}",
                    f"CREATE EXTENSION IF NOT EXISTS {ident(each['name'])} WITH SCHEMA {ident(each['schema'])}",
                ):
                    inside.execute(statement)

    def _feed(self, manifest: Manifest, part: OpenPart, chosen: Chosen, options: str, progress: Progress) -> None:
        settings, tablespaces = self._known()
        psql = self._tools.get("psql")
        with run_psql(self._connector, self._tools, self._into, self._token, options) as process:
            feed = Feed(
                process.write, chosen, knows_restrict=psql.knows_restrict, settings=settings, tablespaces=tablespaces
            )
            with contextlib.ExitStack() as stack:
                take = feed.take
                if manifest.dump_format == "pg_custom":
                    converter = Converter(self._tools, feed.take)
                    stack.callback(converter.close)
                    take = converter.write
                for done, chunk in _counted(part("data")):
                    take(chunk)
                    progress("load", done, manifest.data.plain_size)
                if manifest.dump_format == "pg_custom":
                    converter.finish()
            feed.finish()
            process.close_input()
            process.wait()
        self._notes.extend(feed.notes)
        if not chosen.everything and not any(chosen.table(table) for table in feed.scanner.rows):
            raise RestoreRefused("The selection matches no table of this backup.", kept="production was not touched")

    def _restore_in_parallel(self, manifest: Manifest, part: OpenPart, options: str, progress: Progress) -> None:
        """``pg_restore`` needs a file to work in parallel: spool it, unencrypted but 0600, where it runs."""
        config = self._connector.config
        path = (
            str(self._journal.path.with_suffix(".spool"))
            if isinstance(self._tools.runner, LocalRunner)
            else f"/tmp/backup-flows-{self._token}.spool"
        )
        self._journal.record("load-spool", path=path)
        write = Command(
            ("/bin/sh", "-c", 'umask 077; exec cat >"$1"', "sh", path), feeds=True, title="writing the spool file"
        )
        try:
            with self._tools.runner.start(write, timeout=config.timeout_seconds) as process:
                for done, chunk in _counted(part("data")):
                    process.write(chunk)
                    progress("spool", done, manifest.data.plain_size)
                process.close_input()
                process.wait()
            restore = self._tools.command(
                "pg_restore",
                "--exit-on-error",
                "--no-password",
                f"--jobs={config.jobs}",
                f"--dbname=dbname={conninfo(self._into)}",
                path,
                env=self._connector.tool_environment(self._into, token=self._token, options=options),
            )
            progress("load", 0, manifest.data.plain_size)
            self._tools.runner.run(restore, timeout=config.timeout_seconds)
            progress("load", manifest.data.plain_size, manifest.data.plain_size)
        finally:
            remove_spool(self._tools, path)

    def _known(self) -> tuple[set[str], set[str]]:
        with self._connector.open(self._into, token=self._token) as inside, translated("asking for settings"):
            return (
                {row[0] for row in inside.execute("SELECT name FROM pg_settings")},
                {row[0] for row in inside.execute("SELECT spcname FROM pg_tablespace")},
            )

    def _about_what_acts(self, inside: Connection) -> None:
        for what, query in _ACTORS.items():
            found = [row[0] for row in inside.execute(query)]
            if found:
                self._notes.append(what.format(", ".join(found)))


_ACTORS = {
    "Subscriptions are there, but disabled; enable them when they should take in changes again: {}.": (
        "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid "
        "WHERE datname = current_database()"
    ),
    "Publications are there; subscribers must be pointed at them anew: {}.": "SELECT pubname FROM pg_publication",
    "Extensions that act or reach out by themselves are there: {}.": (
        "SELECT extname FROM pg_extension WHERE extname IN ('pg_cron', 'dblink', 'postgres_fdw', 'timescaledb')"
    ),
}


def session_options(connection: Connection) -> str:
    """libpq options for sessions that load: no event trigger fires, and a commit does not wait for the disk
    (a later commit that does, such as the swap's, covers all before it)."""
    options = "-c synchronous_commit=off"
    with translated("asking for one's own rights"):
        row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    if row and row[0]:
        options += " -c session_replication_role=replica"
        options += " -c event_triggers=off" if connection.info.server_version >= 170000 else ""
    return options


def run_psql(connector: Connector, tools: Tools, database: str, token: str, options: str = "") -> Process:
    """A psql that reads statements from us and stops at the first error."""
    command = tools.command(
        "psql",
        "-X",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-o",
        "/dev/null",
        "-f",
        "-",
        env=connector.tool_environment(database, token=token, options=options),
        feeds=True,
    )
    return tools.runner.start(command, timeout=connector.config.timeout_seconds)


def remove_spool(tools: Tools, path: str) -> None:
    """Remove a spool file where the tools run."""
    tools.runner.run(Command(("/bin/rm", "-f", path)))


def _counted(chunks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        yield done, chunk


def _roles(manifest: Manifest, part: OpenPart, properties: Properties | None) -> list[str]:
    found = manifest.contents.get("roles")
    if found is None:
        finder = RoleFinder()
        if manifest.dump_format != "pg_custom":
            for chunk in part("data"):
                finder.take(chunk)
        found = sorted(finder.roles)
    of_database = (
        [properties["owner"], *(each["role"] for each in [*properties["rights"], *properties["settings"]])]
        if properties
        else []
    )
    return list(dict.fromkeys([*found, *(role for role in of_database if role)]))


def _refuse_nothing(manifest: Manifest, chosen: Chosen) -> None:
    known = [*manifest.rows, *manifest.uncounted]
    if not chosen.everything and known and not any(chosen.table(table) for table in known):
        raise RestoreRefused(
            "The selection matches no table of this backup.",
            kept="nothing was made",
            remedy=f"it holds: {', '.join(sorted(known)[:20])}",
        )

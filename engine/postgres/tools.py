"""Which pg_dump, psql, pg_restore and pg_dumpall are used: those of the server's own major version first.

An older pg_dump refuses a newer server; a newer one works, but writes what an older server may not
understand. So: the configured directory, else the server's own version, else PATH, else newer ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import ToolFailed, ToolMissing, WrongTool
from engine.processes import Command, Runner

NEWEST_MAJOR = 24
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
# First minor release of each major whose psql knows \restrict.
_RESTRICT = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}


@dataclass(frozen=True)
class Tool:
    """One client program: where it is and how old."""

    path: str
    major: int
    minor: int

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def knows_restrict(self) -> bool:
        """psql: does it know the ``\\restrict`` command that newer dumps carry?"""
        return self.major >= 18 or self.minor >= _RESTRICT.get(self.major, 10_000)


class Tools:
    """The client programs of one server, looked up once.

    Args:
        runner: Where they run.
        tools_path: Directory that the site names; nothing else is looked at then.
        server_major: Major version of the server.
    """

    def __init__(self, runner: Runner, tools_path: str | None, server_major: int) -> None:
        self.runner = runner
        self._path = tools_path
        self._major = server_major
        self._found: dict[str, Tool] = {}

    def get(self, name: str) -> Tool:
        """The program of that name.

        Raises:
            ToolMissing: It is not there. WrongTool: only older ones than the server are there.
        """
        if name not in self._found:
            self._found[name] = self._look_for(name)
        return self._found[name]

    def command(self, name: str, *arguments: str, env: Mapping[str, str], feeds: bool = False) -> Command:
        """A command line of one of the programs."""
        return Command((self.get(name).path, *arguments), env=env, feeds=feeds, title=name)

    def _look_for(self, name: str) -> Tool:
        found: list[Tool] = []
        for candidate in self._candidates(name):
            path = self.runner.find([candidate])
            if path is None:
                continue
            tool = self._ask(path)
            if tool is not None and tool.major >= self._major:
                return tool
            if tool is not None:
                found.append(tool)
        place = self.runner.describe()
        remedy = f"install postgresql-client-{self._major} there, or set tools_path (or service) to where it is"
        if found:
            newest = max(found, key=lambda tool: (tool.major, tool.minor))
            raise WrongTool(
                f"{name} on {place} is version {newest.version} ({newest.path}), older than the server "
                f"(version {self._major}): it would refuse to work.",
                remedy=remedy,
            )
        raise ToolMissing(f"{name} is not on {place}.", remedy=remedy)

    def _candidates(self, name: str) -> list[str]:
        if self._path:
            return [f"{self._path}/{name}"]
        newer = [f"/usr/lib/postgresql/{major}/bin/{name}" for major in range(self._major, NEWEST_MAJOR + 1)]
        return [newer[0], name, *newer[1:]]

    def _ask(self, path: str) -> Tool | None:
        try:
            words = self.runner.run(Command((path, "--version"))).text
        except ToolFailed:
            return None
        found = _VERSION.search(words)
        return Tool(path, int(found[1]), int(found[2] or 0)) if found else None

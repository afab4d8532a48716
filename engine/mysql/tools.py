"""The client programs of a server's flavour: where they are, which version, and how to call them.

MariaDB 11 has only ``mariadb-*`` names and MySQL only ``mysql*``; older MariaDB has both, so a name
proves nothing and the program is asked what it is. Secrets go through an option file that exists only
where the program runs; home directories are hidden from it, or a user's own ``~/.my.cnf`` would win.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.config import MySQLConfig
from engine.errors import ToolMissing, WrongTool
from engine.mysql.connection import STANDARD_PORT
from engine.processes import Command, ContainerRunner, Runner

CLIENT, DUMP = "client", "dump"
_NAMES = {
    ("mariadb", CLIENT): ("mariadb", "mysql"),
    ("mariadb", DUMP): ("mariadb-dump", "mysqldump"),
    ("mysql", CLIENT): ("mysql",),
    ("mysql", DUMP): ("mysqldump",),
}
_WORDS = {"mariadb": "MariaDB", "mysql": "MySQL"}
_PACKAGES = {"mariadb": "mariadb-client", "mysql": "mysql-client"}
_VERSION = (r"Distrib (\d+\.\d+\.\d+)", r"from (\d+\.\d+\.\d+)", r"Ver (\d+\.\d+\.\d+)")


@dataclass(frozen=True)
class Tool:
    """A client program that was found: its path, flavour and version (``10.11.14``)."""

    path: str
    flavour: str
    version: str

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def find_tool(runner: Runner, flavour: str, role: str) -> Tool:
    """The program of that role for a server of that flavour.

    Raises:
        ToolMissing: None of its names is there.
        WrongTool: It is the other flavour's.
    """
    names = _NAMES[flavour, role]
    place = runner.describe()
    path = runner.find(names)
    if path is None:
        raise ToolMissing(
            f"{' or '.join(names)} is not on {place}, and the server is {_WORDS[flavour]}.",
            remedy=f"install {_PACKAGES[flavour]} there, or name the server's own container (service or container)",
        )
    text = runner.run(Command((path, "--no-defaults", "--version"))).text
    found = "mariadb" if "mariadb" in text.lower() else "mysql"
    if found != flavour:
        raise WrongTool(
            f"{path} on {place} is {_WORDS[found]}'s, and the server is {_WORDS[flavour]}: "
            "their dumps and log positions differ.",
            remedy=f"install {_PACKAGES[flavour]} there, set tools_path, or run the tools in the server's own "
            "container (service or container)",
        )
    return Tool(path, found, _version(text))


def version_tuple(text: str) -> tuple[int, ...]:
    """``10.11.14-MariaDB-log`` as (10, 11, 14)."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def option_file(config: MySQLConfig) -> str:
    """An option file with user and password, for ``--defaults-extra-file``."""
    password = config.password.get_secret_value() if config.password else ""
    return f"[client]\nuser={_option(config.user)}\npassword={_option(password)}\n"


def command(
    config: MySQLConfig, runner: Runner, tool: Tool, tail: list[str], *, feeds: bool = False, gated: bool = False
) -> Command:
    """A call of a client program, logged in; ``tail`` follows the connection's options."""
    argv = [tool.path, "--defaults-extra-file={my_cnf}", *_connection_options(config, runner, tool), *tail]
    return Command(
        tuple(argv), env={"HOME": "/nonexistent"}, secret_files={"my_cnf": option_file(config)},
        feeds=feeds, gated=gated, title=tool.name,
    )  # fmt: skip


def _connection_options(config: MySQLConfig, runner: Runner, tool: Tool) -> list[str]:
    inside = isinstance(runner, ContainerRunner)
    port = str(config.port or STANDARD_PORT)
    options = ["--default-character-set=utf8mb4"]
    if config.socket:
        options += ["--protocol=socket", f"--socket={config.socket}"]
    elif inside:  # through the server's own socket, wherever its packager put it
        options += ["--host=localhost"]
    else:
        options += ["--protocol=tcp", f"--host={config.host or '127.0.0.1'}", f"--port={port}"]
    if tool.flavour == "mariadb":
        if config.tls_ca and not inside:
            options += [f"--ssl-ca={config.tls_ca}", "--ssl-verify-server-cert"]
        else:  # clients since 11.4 insist on a certificate by themselves
            options += ["--skip-ssl-verify-server-cert"]
    elif config.tls_ca and not inside:
        options += [f"--ssl-ca={config.tls_ca}", "--ssl-mode=VERIFY_CA"]
    return options


def _option(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


def _version(text: str) -> str:
    return next((found[1] for pattern in _VERSION if (found := re.search(pattern, text))), "")

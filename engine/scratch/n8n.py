"""A throwaway n8n to import into: the program of the source's own version, with a database of its own.

It is never started. Only its commands run, one at a time, so that no schedule and no webhook can fire and nothing is
ever active; and they run without a network. In a container it is the image of the source's own; on this host it is the
command that the site names, which sees neither the source's folder nor its database.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.config import N8nConfig
from engine.errors import ToolMissing
from engine.journal import Journal
from engine.n8n.instance import Instance
from engine.scratch import here, leftovers
from engine.scratch.likeness import likeness_of
from engine.site import Site

_IDLE = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"
_INSIDE = "/backup-flows-drill"
"""A folder in the container's memory."""
_KEPT = re.compile(r"(PATH|HOME|LANG|LC_\w+|TZ|LD_LIBRARY_PATH|NODE_\w+)")
"""What the scratch container keeps of the source's environment; all else is the source's business."""
_KEY = "SCRATCH_N8N_ENCRYPTION_KEY"
_OWN = {
    "DB_TYPE": "sqlite", "EXECUTIONS_MODE": "regular", "N8N_DIAGNOSTICS_ENABLED": "false",
    "N8N_VERSION_NOTIFICATIONS_ENABLED": "false", "N8N_TEMPLATES_ENABLED": "false",
}  # fmt: skip
# What n8n reads from the environment is the source's, or ours: its folder, its database, its key.
_WRAPPER = """#!/bin/sh
for name in $(env | sed -nE 's/^((N8N|DB|QUEUE|EXECUTIONS|CREDENTIALS|EXTERNAL|WEBHOOK)_[A-Z0-9_]*)=.*/\\1/p'); do
  unset "$name"
done
N8N_ENCRYPTION_KEY=$SCRATCH_N8N_ENCRYPTION_KEY N8N_USER_FOLDER=$SCRATCH_N8N_FOLDER
export N8N_ENCRYPTION_KEY N8N_USER_FOLDER {own}
exec {program} "$@"
"""
_WAYS = (("unshare", "--net", "--"), ("unshare", "--map-root-user", "--net", "--"))
"""How a program is run without a network: as root, and as others where the kernel lets them."""


@dataclass
class ScratchN8n:
    """An n8n that is not running, and whose commands are.

    Attributes:
        where: It, in words.
        version: ``2.41.1``.
        notes: What a person should know.
    """

    where: str
    version: str
    _made: Callable[[str, int], Instance] = field(repr=False)
    notes: list[str] = field(default_factory=list)
    alive: Callable[[], bool] = lambda: True
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1), repr=False)

    def instance(self, key: str) -> Instance:
        """An empty one, with that encryption key."""
        return self._made(key, next(self._numbers))


@contextlib.contextmanager
def scratch_n8n(site: Site, config: N8nConfig) -> Iterator[ScratchN8n]:
    """A scratch n8n like a source's; gone when the block is left, however it is left.

    Raises:
        UnknownName: The source's container is not there, so its image is not known. ToolMissing: the site's command is
            not on this host. Unreachable, ToolFailed: it cannot be had.
    """
    contained = bool(config.container or config.service)
    with leftovers.held(site.vault.state, config.name, "n8n") as journal, contextlib.ExitStack() as held:
        yield _boxed(journal, held, site, config) if contained else _on_this_host(journal, site, config)


def _boxed(journal: Journal, held: contextlib.ExitStack, site: Site, config: N8nConfig) -> ScratchN8n:
    like = likeness_of(config, site.name)
    environment = {name: text for name, text in like.environment.items() if _KEPT.fullmatch(name)}
    box = like.again(
        journal, config.docker_host, environment, entrypoint=["/bin/sh", "-c", _IDLE], command=[],
        mounts=list(like.only_read), tmpfs={_INSIDE: "mode=1777"},
    )  # fmt: skip
    held.callback(box.close)

    def made(key: str, number: int) -> Instance:
        own = {"N8N_USER_FOLDER": f"{_INSIDE}/{number}", "TMPDIR": _INSIDE, "N8N_ENCRYPTION_KEY": key, **_OWN}
        return Instance(_like(config, environment=own, container=box.name), site.name)

    version = made("", 0).version()
    where = f"a scratch n8n {version}, container {box.name} of the source's own image"
    return ScratchN8n(where, version, made, alive=lambda: box.alive)


def _on_this_host(journal: Journal, site: Site, config: N8nConfig) -> ScratchN8n:
    search = config.environment.get("PATH") or os.environ.get("PATH")
    program = shutil.which(config.command, path=search)
    if program is None:
        raise ToolMissing(f"{config.command} is not on this host.", remedy=f"set command of {config.name}")
    folder = leftovers.make_directory(journal, here.parents(None, site.vault.state)[0])
    way = next((each for each in _WAYS if _works(each)), ())
    notes = [] if way else ["the scratch n8n's commands could not be kept from the network on this host"]
    wrapper = folder / "n8n"
    own = " ".join(f"{name}={text}" for name, text in _OWN.items())
    here.write_file(wrapper, [_WRAPPER.format(own=own, program=shlex.join([*way, program])).encode()])
    wrapper.chmod(0o700)

    def made(key: str, number: int) -> Instance:
        own = folder / str(number)
        own.mkdir(mode=0o700, exist_ok=True)
        environment = {**config.environment, "TMPDIR": str(folder), "SCRATCH_N8N_FOLDER": str(own), _KEY: key}
        return Instance(_like(config, environment=environment, command=str(wrapper)), site.name)

    version = made("", 0).version()
    return ScratchN8n(f"a scratch n8n {version} in {folder}", version, made, notes)


def _like(config: N8nConfig, **other: object) -> N8nConfig:
    """The source's settings without what leads to the source."""
    apart = {"container": None, "service": None, "project": None, "api_key": None, "encryption_key": None}
    return config.model_copy(update=apart | other)


def _works(way: tuple[str, ...]) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run([*way, "true"], capture_output=True, timeout=30, check=False).returncode == 0
    return False


__all__ = ["ScratchN8n", "scratch_n8n"]

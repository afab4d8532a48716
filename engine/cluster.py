"""A whole PostgreSQL server, as of any second, into an empty directory or a new container: planned, then done.

    plan = plan_cluster(site, ClusterRequest(directory="/var/lib/postgresql/15/main"))
    done = restore_cluster(site, plan)         # shut down; done.steps say how to start it

The old server is not spoken to: it may be gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from engine import names
from engine.config import PostgresConfig
from engine.errors import ConfigError
from engine.point_in_time import PastPlan, physical, proven_logs, refuse_foreign
from engine.postgres.base_facts import BaseFacts, base_facts
from engine.progress import Progress, silent
from engine.recoverable import recoverable
from engine.recovery import make_plan, parse_target
from engine.site import Site

if TYPE_CHECKING:
    from engine.postgres.grounds import Ground
    from engine.postgres.new_cluster import NewCluster

_KEPT = "nothing was changed"
_NAMED = 10


@dataclass(frozen=True)
class ClusterRequest:
    """What a person asked for.

    Attributes:
        source: The PostgreSQL server of the site; may be empty where there is one.
        when: A time with its zone, ``latest``, or ``lsn ...``.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        directory: An absent or empty data directory on this host; or
        container: a container that was created and not started, with an empty data volume.
        tablespaces: Directory below which tablespaces are put, by oid; empty: where they stood.
    """

    source: str = ""
    when: str = "latest"
    location: str = "auto"
    directory: str = ""
    container: str = ""
    tablespaces: str = ""


@dataclass(frozen=True)
class ClusterPlan:
    """What will be done, before anything is.

    Attributes:
        past: The base backup, the logs, the moment.
        spaces: New place of each tablespace, by its old one.
    """

    request: ClusterRequest
    past: PastPlan
    ground: Ground
    facts: BaseFacts
    spaces: dict[str, str]

    @property
    def major(self) -> int:
        return self.facts.version_num // 10000

    @property
    def bytes(self) -> int:
        """Plain bytes of the base backup."""
        return sum(part.plain_size for part in self.past.manifest.files)

    def lines(self) -> list[str]:
        """The plan in words, a line each."""
        past, window, logs = self.past, self.past.plan.window, self.past.plan.logs
        read = sum(past.found.copies(log)[0][1].data.plain_size for log in logs)
        through = f" ({logs[0].name} to {logs[-1].name}, {read:,} bytes)" if logs else ""
        of = ", ".join(sorted(self.facts.databases)[:_NAMED]) + (", ..." if len(self.facts.databases) > _NAMED else "")
        count = f"{len(logs)} logs are" if len(logs) != 1 else "one log is"
        return [
            f"Brings the whole server {past.found.source} (PostgreSQL {self.major}, with {of}) "
            f"back as it was at {past.plan.target}, into {self.ground.describe()}.",
            f"From the base backup {past.manifest.file}, {self.bytes:,} bytes, consistent since "
            f"{names.both_zones(window.earliest)}.",
            *past.drilled.lines(),
            f"Then {count} applied{through}, on no network; the server is shut down again, and not started.",
            *(f"The tablespace in {old} goes to {new}." for old, new in self.spaces.items()),
            f"This can be had from {names.both_zones(window.earliest)} to {names.both_zones(window.latest)}.",
            *(f"Note: {note}" for note in [*past.notes, *past.found.notes]),
        ]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        return self.past.as_dict() | {
            "into": self.ground.describe(),
            "major": self.major,
            "bytes": self.bytes,
            "databases": sorted(self.facts.databases),
            "tablespaces": self.spaces,
        }


@dataclass(frozen=True)
class ClusterResult:
    """What was done, in ``seconds``."""

    done: NewCluster
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For scripts."""
        report = self.done.report
        return {
            "where": self.done.where,
            "databases": report.databases,
            "last_commit": names.iso(report.last_commit) if report.last_commit else None,
            "timeline": report.timeline,
            "steps": self.done.steps,
            "seconds": round(self.seconds, 3),
        }


def plan_cluster(site: Site, request: ClusterRequest) -> ClusterPlan:
    """Find what brings a server back, and look at where it is to go. Changes nothing.

    Raises:
        ConfigError: No PostgreSQL server is meant, no place or two are named, or ``when`` is no target.
        OutsideWindow: It cannot be had; says what can.
        RestoreRefused: The place is not empty, in use, or cannot be reached. WrongTool, ToolMissing: there is no
            PostgreSQL of that version. DiskFull, UnknownName, Unreachable: see the message.
    """
    config = _source(site, request.source)
    target = parse_target(request.when)
    refuse_foreign(site, config.name, target, request.when)
    ground = _ground(config, site.vault.state, request)
    found = recoverable(site, config.name, "", location=request.location)
    past_plan = make_plan(found.windows, target, now=names.now())
    past = PastPlan(site.name, found, past_plan, request.when, past_plan.notes).told(site)
    facts = base_facts(past.manifest)
    spaces = ground.spaces({str(each.oid): each.path for each in facts.tablespaces})
    plan = ClusterPlan(request, past, ground, facts, {each.path: spaces[str(each.oid)] for each in facts.tablespaces})
    ground.check(plan.major, spaces, plan.bytes)
    return plan


def restore_cluster(site: Site, plan: ClusterPlan, *, progress: Progress = silent) -> ClusterResult:
    """Carry out a plan. When it fails, all that was put there is taken away again.

    Raises:
        As ``plan_cluster``; IntegrityError: a log or the base is damaged in every place; LockHeld: another run
        restores there; and what ``engine.postgres.new_cluster.restore_cluster`` raises.
    """
    from engine.postgres.new_cluster import restore_cluster as restore

    begun = time.monotonic()
    given = physical(site, plan.past, proven_logs(site, plan.past, progress), progress)
    done = restore(
        _source(site, plan.past.found.source), state=site.vault.state, ground=plan.ground, base=given.base,
        wal=given.wal, goal=given.goal, progress=progress,
    )  # fmt: skip
    return ClusterResult(done, time.monotonic() - begun)


def _source(site: Site, name: str) -> PostgresConfig:
    if not name:
        known = [each.name for each in site.config.postgres]
        if len(known) != 1:
            raise ConfigError(
                "Which PostgreSQL server is to be brought back?",
                kept=_KEPT,
                remedy=f"name it with --source (source); the site has: {', '.join(known) or 'none'}",
            )
        name = known[0]
    config = site.config.source(name)
    if not isinstance(config, PostgresConfig):
        raise ConfigError(
            f"{name!r} is no PostgreSQL server: there is no copy of it as a whole.",
            kept=_KEPT,
            remedy="restore its databases one by one: backups restore --database NAME --to WHEN",
        )
    return config


def _ground(config: PostgresConfig, state: Path, request: ClusterRequest) -> Ground:
    """The place that was named. Raises ConfigError: none, or both, or a path that does not begin at the root."""
    from engine.postgres.grounds import ContainerGround, HostGround
    from engine.scratch import here

    if bool(request.directory) == bool(request.container):
        raise ConfigError(
            "A whole server goes into a directory or into a container: name one of them.",
            kept=_KEPT,
            remedy="--directory /var/lib/postgresql/15/main (empty or absent), or --container NAME (not started yet)",
        )
    for each in filter(None, (request.directory, request.tablespaces)):
        if not PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts:
            raise ConfigError(f"{each} is not an absolute path.", kept=_KEPT, remedy="write it from the start")
    below = Path(request.tablespaces) if request.tablespaces else None
    if request.container:
        return ContainerGround(request.container, config.docker_host, below, here.parents(None, state))
    return HostGround.of(config, Path(request.directory), state, tablespaces=below)

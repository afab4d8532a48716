"""What a restore of a whole machine would do, before it does anything."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from engine import names
from engine.cold.thaw import note_of
from engine.config import ServerConfig
from engine.drill.told import Told, of_all, of_each
from engine.errors import BackupError, ConfigError, ConfirmationNeeded, RestoreRefused
from engine.images.look import ONE_OFF
from engine.images.source import engine_for
from engine.processes.place import PROJECT, docker_client
from engine.restore_site import containers, databases, health
from engine.restore_site.kinds import KINDS, SERVERS
from engine.restore_site.points import Expected, Piece, Point, expected_of, search
from engine.restore_site.standing import overwritten
from engine.restore_site.state import State
from engine.restore_site.work import Stage, Step
from engine.scratch.boxed import engine_errors
from engine.site import Site, open_source
from engine.volumes.plan import engine_of, recorded

_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_TO_ITS_END = timedelta(hours=23, minutes=59, seconds=59)
_KEPT = "nothing was changed"
_NAMED = 3


@dataclass(frozen=True)
class SiteRequest:
    """What a person asked for.

    Attributes:
        recovery_point: Its id; empty: the newest complete one.
        at: The newest complete one that began by then: a time with its zone, or a day (its end, UTC).
        point_in_time: The moment that databases are brought to; all else is of the newest recovery point before.
        location: ``auto`` (local first, then the replicas), ``local`` or a replica.
        only, without: Sources, or ``source/database``, that are restored, or left out.
        anew: Forget how far an earlier restore came.
    """

    recovery_point: str = ""
    at: str = ""
    point_in_time: str = ""
    location: str = "auto"
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    anew: bool = False


@dataclass(frozen=True)
class SitePlan:
    """What will be done.

    Attributes:
        state: The restore that this one goes on with; None where it begins.
        living: What of the machine is there and in use already, in words.
        left: What no step does, and a person has to.
        later: Steps of the restore that it goes on with, but were not asked for now.
    """

    site: str
    request: SiteRequest
    point: Point
    steps: list[Step]
    state: State | None = None
    living: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    later: list[Step] = field(default_factory=list)
    drilled: dict[str, Told] = field(default_factory=dict)

    @property
    def confirmation(self) -> str:
        """What has to be given to approve it."""
        return f"replace {self.site}" if self.living else self.site

    def is_done(self, step: Step) -> bool:
        return self.state is not None and self.state.done(step.key) is not None

    @property
    def selection(self) -> str:
        """Which part of the machine it is, in words; empty where it is all of it."""
        return _selection(self.request)

    @property
    def put_off(self) -> str:
        """The steps that are not done and were not asked for now."""
        return ", ".join(each.key for each in self.later if not self.is_done(each))

    def lines(self) -> list[str]:
        """The plan in sentences, for a terminal or an approval."""
        age = names.now() - self.point.at
        old = f"{age.days} days" if age.days > 2 else f"{age.total_seconds() / 3600:.1f} h"
        lines = [
            f"Restores the machine {self.site} from recovery point {self.point.id}, {names.both_zones(self.point.at)}, "
            f"{old} old.",
            *of_all(self.drilled),
        ]
        if self.request.point_in_time:
            lines.append(f"Databases as they were at {self.request.point_in_time}, all else of the recovery point.")
        if self.state is not None:
            lines.append(
                f"It goes on with the restore that was begun at {self.state.body['begun_at']}: what is done stays done."
            )
        lines += [
            f"  {number}. {step.title}{' (done)' if self.is_done(step) else ''}"
            for number, step in enumerate(self.steps, 1)
        ]
        if self.later:
            lines.append(f"Not now, though the restore is not finished without: {self.put_off}.")
        if self.living:
            lines.append("THIS MACHINE IS IN USE. There is already:")
            lines += [f"  {each}" for each in self.living]
            lines.append(
                "What is there is replaced; its previous data is kept beside. Containers are kept as they are."
            )
        return lines + [f"Note: {note}" for note in self.notes] + [f"Left for a person: {each}" for each in self.left]

    def as_dict(self) -> dict[str, Any]:
        """The plan for scripts."""
        return {
            "site": self.site,
            "recovery_point": self.point.id,
            "taken_at": names.iso(self.point.at),
            "point_in_time": self.request.point_in_time or None,
            "resumes": self.state is not None,
            "steps": [{"key": each.key, "title": each.title, "done": self.is_done(each)} for each in self.steps],
            "backups": {str(target): piece.manifest.file for target, piece in self.point.pieces.items()},
            "in_use": self.living,
            "confirm": self.confirmation,
            "notes": self.notes,
            "drills": {name: each.as_dict() for name, each in self.drilled.items()},
            "left": self.left,
            "later": [each.key for each in self.later if not self.is_done(each)],
        }


def make_plan(site: Site, request: SiteRequest) -> SitePlan:
    """Find the recovery point, look at the machine, and say what restoring it means. Changes nothing.

    Raises:
        RestoreRefused: No recovery point is complete; or an earlier restore of another one is not finished; or somebody
            else's container has the name of one of the machine's.
        ConfigError: Nothing is left to restore.
        UnknownName, ConfigError: See ``points.search`` and ``points.expected_of``; a time that is none.
        Unreachable: No Docker engine answers, and one is needed. WrongKey, and what the stores raise.
    """
    notes: list[str] = []
    state = None if request.anew else State.open(site.vault.state)
    asked = request.only
    if state is not None:
        request = _resumed(state, request)
    expected = expected_of(site, request.only, request.without)
    before = begun_by(request, notes)
    if not expected:
        raise _nothing(request)
    point = search(
        site, expected, wanted=request.recovery_point, before=before, location=request.location,
        without=request.without,
    )  # fmt: skip
    steps, left = _steps(site, point, request)
    later: list[Step] = []
    if asked != request.only and asked:
        every, request = steps, replace(request, only=asked)
        point = _part(point, expected_of(site, asked, request.without))
        steps, left = _steps(site, point, request)
        later = [each for each in every if each.key not in {step.key for step in steps}]
    if not steps:
        raise _nothing(request, left)
    notes += [
        f"{target}: {note_of(piece.entry, piece.frozen)}" for target, piece in point.pieces.items() if piece.frozen
    ]
    notes += point.doubts + _passed(point, request)
    left += _unnamed(point, request)
    notes += _moments(site, request, point)
    notes += overwritten(site, point, state)
    living = list(_living(site, point, state))
    drilled = of_each(site, {target: piece.copies for target, piece in point.pieces.items()})
    return SitePlan(site.name, request, point, steps, state, living, notes, left, later, drilled)


def _part(point: Point, wanted: Expected) -> Point:
    """A recovery point with only what is wanted of it."""
    pieces = {
        target: piece
        for target, piece in point.pieces.items()
        if target.source in wanted and (not wanted[target.source] or target.database in wanted[target.source])
    }
    return replace(point, pieces=pieces)


def _nothing(request: SiteRequest, left: Iterable[str] = ()) -> ConfigError:
    said = _selection(request)
    return ConfigError(
        f"There is nothing to restore{f' ({said})' if said else ''}{''.join(f'; {each}' for each in left)}.",
        kept=_KEPT,
        remedy="see what --only and --without leave; what is not part of a restore that is not finished: --anew",
    )


def _selection(request: SiteRequest) -> str:
    """What was chosen, in words; empty where it is all."""
    told = {"only": request.only, "without": request.without}
    return "; ".join(f"{word} {', '.join(names)}" for word, names in told.items() if names)


def check_confirmation(plan: SitePlan, confirm: str) -> bool:
    """True when ``confirm`` approves the plan, False when it is empty.

    Raises:
        ConfirmationNeeded: It is something else than what this plan needs.
    """
    if not confirm:
        return False
    if " ".join(confirm.split()) != plan.confirmation:
        in_use = f" This machine is in use: {'; '.join(plan.living[:5])}." if plan.living else ""
        raise ConfirmationNeeded(
            f"The confirmation {confirm!r} does not approve this plan.{in_use}",
            kept=_KEPT,
            remedy=f"to approve it: --confirm {plan.confirmation!r}",
        )
    return True


def _resumed(state: State, request: SiteRequest) -> SiteRequest:
    """The request of the restore that is not finished; what is to be left out may be added to."""
    saved = state.body["request"]
    was = SiteRequest(**{**saved, "only": tuple(saved["only"]), "without": tuple(saved["without"])})
    other = [
        name
        for name in ("recovery_point", "at", "point_in_time")
        if getattr(request, name) and getattr(request, name) not in (getattr(was, name), state.point)
    ]
    if other:
        raise RestoreRefused(
            f"A restore of recovery point {state.point}, begun at {state.body['begun_at']}, is not finished; this asks "
            f"for another one ({', '.join(other)}).",
            kept=_KEPT,
            remedy="run it without these to go on, or begin anew: --anew",
        )
    location = request.location if request.location != "auto" else was.location
    without = tuple(dict.fromkeys((*was.without, *request.without)))
    return replace(was, recovery_point=state.point, location=location, without=without)


def begun_by(request: SiteRequest, notes: list[str]) -> datetime | None:
    """The latest moment at which the recovery point may have begun."""
    if request.recovery_point:
        if request.at:
            raise ConfigError("Both a recovery point and a time (at) are given.", kept=_KEPT, remedy="give one of them")
        return None
    if request.at:
        if _DAY.match(request.at):
            day = names.parse_moment(f"{request.at}T00:00:00Z", shown=request.at) + _TO_ITS_END
            notes.append(f"the day {request.at} is taken to end at {names.both_zones(day)}")
            return day
        return names.parse_moment(request.at)
    if request.point_in_time and request.point_in_time != "latest":
        return names.parse_moment(request.point_in_time)
    return None


def _steps(site: Site, point: Point, request: SiteRequest) -> tuple[list[Step], list[str]]:
    """All steps in their order, and what none of them does."""
    order = {source.name: number for number, source in enumerate(site.config.sources())}
    steps: list[Step] = []
    left: list[str] = []
    for target, piece in sorted(point.pieces.items(), key=lambda each: (order[each[0].source], each[0].database)):
        kind = KINDS.get(piece.manifest.kind)
        if kind is None:
            left.append(f"{target} is of a kind ({piece.manifest.kind}) that this release does not restore by itself")
            continue
        steps.append(Step(str(target), kind.title(piece), kind.stage, partial(_call, kind.restore, piece)))
    for source in order:
        pieces = point.of(source)
        if pieces and pieces[0].manifest.kind in SERVERS:
            steps += _around_server(source, pieces[0])
        elif pieces and pieces[0].manifest.kind == "images":
            steps += _around_containers(source)
    if site.config.health and not request.only:
        said = f"ask {', '.join(each.shown for each in site.config.health)}"
        steps.append(Step("health", said, Stage.HEALTH, health.check_all))
    return sorted(steps, key=lambda step: step.stage), left


def _passed(point: Point, request: SiteRequest) -> list[str]:
    """Newer recovery points that were not taken; of those not asked for, none."""
    if request.recovery_point or not point.passed:
        return []
    more = f"; and {len(point.passed) - _NAMED} more" if len(point.passed) > _NAMED else ""
    return [f"newer recovery points are not complete and were passed over: {'; '.join(point.passed[:_NAMED])}{more}"]


def _unnamed(point: Point, request: SiteRequest) -> list[str]:
    if request.only or not point.unnamed:
        return []
    return [
        "the recovery point holds what this site file does not name, and it is not restored: "
        f"{', '.join(point.unnamed)} (the site file of that time: backups recover-site-file --at {names.iso(point.at)})"
    ]


def _call(restore: Any, piece: Piece, work: Any) -> Any:
    return restore(work, piece)


def _around_server(source: str, piece: Piece) -> list[Step]:
    return [
        Step(
            f"{source}: accounts", f"users and roles of {source}, once it runs", Stage.ACCOUNTS,
            lambda work: databases.accounts(work, piece),
        ),
        Step(
            f"{source}: grants", f"grants of {source}", Stage.GRANTS,
            lambda work: databases.accounts(work, piece, again=True),
        ),
    ]  # fmt: skip


def _around_containers(source: str) -> list[Step]:
    return [
        Step(
            f"{source}: containers", f"networks and containers of {source}, made as they were", Stage.CONTAINERS,
            lambda work: containers.make(work, source),
        ),
        Step(
            f"{source}: start", f"start the containers of {source} that ran", Stage.START,
            lambda work: containers.start_all(work, source),
        ),
    ]  # fmt: skip


def _moments(site: Site, request: SiteRequest, point: Point) -> Iterator[str]:
    """What of the databases cannot be had at the moment that was asked for."""
    for target, piece in point.pieces.items():
        if piece.manifest.kind in SERVERS and request.point_in_time:
            found = databases.past_of(site, request.location, request.point_in_time, piece)
            if isinstance(found, BackupError):
                yield f"{target} cannot be had at {request.point_in_time} ({found.message}); it is as of the backup"


def _living(site: Site, point: Point, state: State | None) -> Iterator[str]:
    """What is there of this machine already, but for what an unfinished restore made. Raises Unreachable."""

    def ours(what: str) -> bool:
        return state is not None and state.is_ours(what)

    for config in site.config.images:
        if not point.of(config.name):
            continue
        with contextlib.closing(engine_for(config, site.name)) as engine, engine_errors("Looking at the containers"):
            (piece,) = point.of(config.name)
            ran_on = {each["container"]: each["id"] for each in piece.manifest.contents.get("ran_on", ())}
            for each in engine.client.containers.list(all=True, ignore_removed=True):
                mine = each.labels.get(PROJECT) == engine.project and each.labels.get(ONE_OFF) != "True"
                if ours(f"container {each.name}") or ours(f"kept container {each.name}"):
                    continue
                if mine or each.name in config.containers:
                    other = each.attrs["Image"] != ran_on.get(each.name, each.attrs["Image"])
                    yield f"container {each.name} ({each.status}{', of another image than recorded' if other else ''})"
                elif each.name in ran_on:
                    raise containers.stranger(each.name, engine.project)
    for volumes in site.config.volumes:
        engine = engine_of(site, volumes)
        for piece in point.of(volumes.name):
            real = str(piece.manifest.contents.get("volume") or piece.target.database)
            if ours(f"volume {real}"):
                continue
            if engine.get(real) is not None:
                yield f"volume {real}"
            elif where := engine.left_standing(recorded(piece.manifest, real)):
                yield f"volume {real}: {where}; nothing is written there unless it is empty"
    for target, piece in point.pieces.items():
        if piece.manifest.kind not in SERVERS or (state is not None and state.begun(str(target)) is not None):
            continue
        server = site.config.server(target.source)
        if isinstance(server, ServerConfig) and (server.container or server.service):
            docker_client(server.docker_host).close()  # an engine is needed, though the container may still be missing
        source = open_source(server, site.name)
        with contextlib.suppress(BackupError), contextlib.closing(source):
            there = source.state(target.database)
            if there.exists and there.tables:
                yield f"database {target} ({there.tables} tables)"


def request_facts(request: SiteRequest) -> dict[str, Any]:
    """What is remembered of a request."""
    return asdict(replace(request, anew=False))

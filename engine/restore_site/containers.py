"""Images, networks, volumes and containers of a machine, from its record; and all of them running in the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from engine.config import N8nConfig, ServerConfig
from engine.errors import BackupError, Cancelled, RestoreRefused, Thawing, ToolFailed, UnknownName
from engine.images import binds, recreate, tags
from engine.images.load import bring_back, needed
from engine.images.record import Container, Record
from engine.processes.place import docker_client
from engine.restore_site.points import Piece
from engine.restore_site.state import Done
from engine.restore_site.work import Work
from engine.scratch.boxed import engine_errors
from engine.services import fate, find
from engine.volumes.docker_engine import Volume

_SETTLE_SECONDS = 180.0
"""How long a container may restart until it stays up: it may be waiting for another."""


def restore_images(work: Work, piece: Piece) -> Done:
    """Every image that the containers run on; those that cannot be had are named together at the end.

    Raises:
        ToolFailed: Some have to be pulled, and that failed. IntegrityError: no whole copy of one is left.
    """
    source = piece.target.source
    record, client = work.record(source), work.client(source)
    counts: dict[str, int] = {}
    notes: list[str] = []
    failed: list[BackupError] = []
    beside = (work.state.begun(work.key) or {}).get("beside", {}) | tags.keep_beside(client, list(needed(record)))
    if beside:
        work.state.record(work.key, beside=beside)
    for image in needed(record):
        work.tell(f"image {image.shown}")
        try:
            how = bring_back(
                work.site, client, source, image, notes, location=work.request.location, progress=work.progress
            )
            counts[how] = counts.get(how, 0) + 1
        except (Cancelled, Thawing):
            raise
        except BackupError as error:
            failed.append(error)
    if failed:
        kind = type(failed[0])
        raise kind(
            " ".join(each.message for each in failed),
            kept=f"{sum(counts.values())} other images are there",
            remedy="; ".join(dict.fromkeys(each.remedy for each in failed if each.remedy)),
        )
    said = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    left = [
        f"the name {tag} led to another image here, which is kept as {kept}; to have it lead there again: docker tag "
        f"{kept} {tag}"
        for tag, kept in sorted(beside.items())
    ]
    return Done(f"{_count(sum(counts.values()), 'image')}: {said}", {"images": sum(counts.values())}, notes, left)


def make(work: Work, source: str) -> Done:
    """Networks, volumes that no backup held, and every container, not started."""
    record, client = work.record(source), work.client(source)
    for network in record.networks:
        recreate.make_network(client, network, record)
    empty = _make_volumes(work, client, record)
    filled = {str(each["Name"]) for each in record.volumes} - set(empty)
    failed, left, kept = [], [], 0
    for wanted in record.containers:
        try:
            there = recreate.of_name(client, wanted.name)
            if there is None:
                work.state.made(f"container {wanted.name}")
                recreate.make_container(client, wanted, record, filled)
            elif not work.state.is_ours(f"container {wanted.name}"):
                left += _kept(work, source, there, wanted)
                kept += 1
        except BackupError as error:
            failed.append(f"{wanted.name} ({error.message})")
    if failed:
        raise ToolFailed(
            f"Containers could not be made: {'; '.join(failed)}.",
            kept="every other container was made; none was started",
            remedy="make them by hand (docker compose up --no-start SERVICE), and run this again",
        )
    counts = {"containers": len(record.containers), "networks": len(record.networks)}
    left += _told_of_volumes(record, empty)
    left += _bound(work, record)
    said = f"{_count(len(record.containers) - kept, 'container')} made as they were"
    return Done(f"{said}, {kept} stood there and were kept" if kept else said, counts, left=left)


def _kept(work: Work, source: str, there: Any, wanted: Container) -> list[str]:
    """A container that stands there already stays as it is: what is in it is nowhere else. In what it is another than
    the recorded one, for a person.

    Raises:
        RestoreRefused: It is not of this machine.
    """
    project = work.record(source).project
    if recreate.is_strange(there, project, wanted.config.get("Labels") or {}):
        raise stranger(wanted.name, project)
    work.state.made(f"kept container {wanted.name}")
    other = recreate.differing(there, wanted)
    if not other:
        return []
    return [
        f"container {wanted.name} stood there already and was kept, though it is not as it was recorded "
        f"({', '.join(other)}); to have it as it was: docker rm -f {wanted.name}, then: backups restore-site --only "
        f"{source}"
    ]


def stranger(name: str, project: str) -> RestoreRefused:
    """A container of that name is none of the machine's."""
    return RestoreRefused(
        f"There is a container {name} here, which is not of the compose project {project}.",
        kept="it was not touched",
        remedy=f"is it the right host? If it is not needed: docker rename {name} {name}-other (or remove it)",
    )


def _make_volumes(work: Work, client: Any, record: Record) -> list[str]:
    """Volumes that are not there, made empty; their names, those of an earlier try too."""
    empty: list[str] = list((work.state.begun(work.key) or {}).get("empty", ()))
    for volume in record.volumes:
        name = str(volume["Name"])
        if not recreate.has_volume(client, name):
            empty = [*dict.fromkeys((*empty, name))]
            work.state.made(f"volume {name}")
            work.state.record(work.key, empty=empty)
            recreate.make_volume(client, volume)
    return empty


def _told_of_volumes(record: Record, made: list[str]) -> Iterator[str]:
    """Volumes that were made and not filled: what stands elsewhere, such as on a share, is as it was found there."""
    known = (Volume(str(each["Name"]), str(each.get("Driver") or "local"), "", options=each.get("Options") or {})
             for each in record.volumes)  # fmt: skip
    found = {each.name: each.stands for each in known if each.outlived}
    empty = [each for each in made if each not in found]
    if empty:
        yield (
            f"these volumes are in no backup and were made empty: {', '.join(empty)} (that of a database server is "
            "filled by restoring its databases)"
        )
    shares = [f"{each} ({found[each]})" for each in made if each in found]
    if shares:
        yield f"these volumes were made with their options, and hold what stands there: {', '.join(shares)}"


def _bound(work: Work, record: Record) -> list[str]:
    """Directories of the host that containers have, and nobody has brought back."""
    contents = [piece.manifest.contents for piece in work.point.pieces.values() if piece.manifest.kind == "config"]
    covered = [(each.get("paths", []), each.get("exclude", [])) for each in contents]
    paths = binds.told(record, covered, [str(work.site.vault.root)])
    if not paths:
        return []
    return [
        f"these are bound into containers from the host, and are not restored: {', '.join(paths)}; where nothing "
        "stands there, the engine makes an empty directory (that of a database server is filled by its databases)"
    ]


def start_all(work: Work, source: str) -> Done:
    """Start what ran, in the order in which it was made, and see that it goes on running.

    Raises:
        ToolFailed: Some do not; every other one runs.
    """
    record, client = work.record(source), work.client(source)
    failed, notes, running = [], [], 0
    for wanted in record.containers:
        if not wanted.running:
            notes.append(f"{wanted.name} did not run when it was recorded, and was not started")
            continue
        work.tell(f"starting {wanted.name}")
        try:
            (container,) = find(client, wanted.name, record.project)
            recreate.start(container)
            notes.append(f"{wanted.name} {settled(container)}")
            running += 1
        except BackupError as error:
            failed.append(f"{wanted.name}: {error.message}")
    if failed:
        raise ToolFailed(
            f"Not every container runs: {'; '.join(failed)}",
            kept=f"{running} others run; all data is restored",
            remedy="look why with docker logs NAME, and run this again",
        )
    return Done(f"{_count(running, 'container')} running", {"running": running}, notes)


def settled(container: Any) -> str:
    """What a started container comes to: it may fail a few times while another is not up yet. Raises ToolFailed."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        try:
            return fate(container)
        except ToolFailed:
            with engine_errors(f"Looking at container {container.name}"):
                container.reload()
            restarts = str((container.attrs["HostConfig"].get("RestartPolicy") or {}).get("Name") or "no")
            if restarts == "no" or time.monotonic() > deadline:
                raise
            time.sleep(1)


def have_running(work: Work, config: ServerConfig | N8nConfig) -> None:
    """A server that lives in a container is started before its databases can be restored.

    Raises:
        RestoreRefused: There is no such container, and no record to make it from. ToolFailed: it does not start.
    """
    name = config.container or config.service
    if not name:
        return
    client = docker_client(config.docker_host)
    try:
        found = find(client, name, config.project or work.site.name)
    except UnknownName as error:
        client.close()
        raise RestoreRefused(
            f"{config.name} is to run in a container that is not there: {error.message}",
            kept="all that was restored so far; run again, and it goes on from here",
            remedy=f"bring it up from the restored compose file (docker compose up -d {name}), and run this again",
        ) from None
    try:
        for container in found:
            recreate.start(container)
            settled(container)
    finally:
        client.close()


def restart(work: Work, config: N8nConfig) -> None:
    """Stop the container of an n8n as it wants to be stopped, and start it again.

    Raises:
        ToolFailed: It does not start. Unreachable, UnknownName.
    """
    client = docker_client(config.docker_host)
    try:
        for container in find(client, config.container or config.service or "", config.project or work.site.name):
            with engine_errors(f"Starting container {container.name} again"):
                container.restart()
                container.reload()
            settled(container)
    finally:
        client.close()


def serve(work: Work, url: str | None) -> list[str]:
    """Start the containers that answer at an address, where they are among those recorded: an S3 server before its
    buckets are restored, n8n before its workflows. Nothing where it is answered elsewhere. Their names.

    Raises:
        ToolFailed: One does not start. Unreachable.
    """
    started = []
    for config in work.site.config.images:
        if url and work.point.of(config.name):
            record = work.record(config.name)
            for wanted in serving(record, url):
                for container in find(work.client(config.name), wanted.name, record.project):
                    recreate.start(container)
                    settled(container)
                    started.append(wanted.name)
    return started


def serving(record: Record, url: str) -> list[Container]:
    """The containers that an address leads to: by their own or their service's name, or by a port they publish here.
    Where none does and nothing answers yet, those that are in this host's own network: which ports are theirs nobody
    knows."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    named = [each for each in record.containers if host and host in (each.name, each.service)]
    if named or host not in _HERE:
        return _joined(record, named)
    published = [each for each in record.containers if port in _published(each)]
    if published or _answers(host, port):
        return _joined(record, published)
    return [each for each in record.containers if each.running and each.host.get("NetworkMode") == "host"]


def _joined(record: Record, found: list[Container]) -> list[Container]:
    """These, and those that live in the network of one of them: what answers may be any of them."""
    networks = {f"container:{each.id}" for each in found}
    return found + [each for each in record.containers if each.host.get("NetworkMode") in networks]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
        return True
    except OSError:
        return False


_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")


def _published(container: Container) -> set[int]:
    bindings = (container.host.get("PortBindings") or {}).values()
    return {int(each["HostPort"]) for given in bindings for each in given or [] if str(each.get("HostPort")).isdigit()}


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"

"""Containers and images on a real engine: recorded, each image stored once, opened by hand, brought back and run."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound

from engine import names
from engine.backup import backup_one
from engine.drill.run import DrillRequest, drill
from engine.errors import ConfigError, IntegrityError, ToolFailed, Unreachable
from engine.images.load import bring_back, copies_of, needed, open_record
from engine.images.recreate import make_container, make_network, start
from engine.images.registries import registry_has
from engine.site import Site, Target
from tests.functional.config_machine import shell
from tests.functional.volume_machine import OBEYS, Box
from tests.servers.docker import DockerEngine
from tests.servers.registry import registry

TARGET = Target("images", "images")
SECRET = "FAKE-password-of-a-container-0123456789"


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def _site(box: Box, **images: Any) -> Site:
    config = box.config(volumes=[])
    body = config.model_dump() | {
        "volumes": [],
        "images": {"docker_host": box.engine.host, "project": box.project, **images},
    }
    body["vault"]["keys"] = {"current": "main", "keys": {"main": config.vault.keys.keys["main"]}}
    return Site(type(config).model_validate(body))


def _build(box: Box, name: str, content: str) -> str:
    """An image made on this machine; its tag."""
    tag = f"{box.project}/{name}:1"
    context = io.BytesIO(f'FROM backup-flows/busybox:1\nRUN echo "{content}" > /said\nENV SAID={content}\n'.encode())
    box.client.images.build(fileobj=context, tag=tag, rm=True)
    return tag


def _run(box: Box, service: str, tag: str, **more: Any) -> Any:
    labels = {"com.docker.compose.project": box.project, "com.docker.compose.service": service}
    return box.client.containers.run(
        tag, OBEYS, name=f"{box.project}-{service}-1", labels=labels, detach=True,
        environment={"PASSWORD": SECRET}, **more,
    )  # fmt: skip


def test_each_image_is_stored_once_opens_by_hand_and_comes_back_with_its_containers(box: Box, tmp_path: Path) -> None:
    network = f"{box.project}_default"
    box.client.networks.create(network, labels={"com.docker.compose.project": box.project})
    first, second = _build(box, "app", "first"), _build(box, "other", "second")
    running = _run(box, "web", first, network=network, hostname="the-web", restart_policy={"Name": "unless-stopped"})
    still = _run(box, "job", second, network=network)
    still.stop(timeout=1)
    ids = {str(each.attrs["Image"]) for each in (running, still)}
    try:
        with _site(box) as site:
            made = backup_one(site, TARGET, tier="daily", recovery_point="20260301_040000-0000aaaa")
            again = backup_one(site, TARGET, tier="daily")
            stored = list(site.vault.catalog().entries(source="images", tier=names.IMAGE))
            assert {f"sha256:{each.name.name}" for each in stored} == ids, "two backups, each image once"
            assert made.manifest.contents["saved"] == again.manifest.contents["saved"] and len(stored) == 2
            assert made.manifest.holds == "2 containers, 2 images, 1 network"
            told = {each["container"]: each["id"] for each in made.manifest.contents["ran_on"]}
            assert told[running.name] == running.attrs["Image"] and SECRET not in made.manifest.model_dump_json()
            assert all(site.vault.marks(each)[-1]["kind"] == "verified" for each in stored)
            outcome = drill(site, DrillRequest(source="images"))
            assert outcome.verdict == "proven", outcome
            (piece,) = outcome.pieces()
            assert not piece.restored and {check.what for check in piece.checks} == {
                "reading", "containers", "every layer's digest",
            }  # fmt: skip
            assert piece.checks[-1].said.endswith("of 2 stored images read layer by layer against its digests")
            said = "images/images only read (every stored layer against its digest)"
            assert outcome.rto_seconds == 0 and said in outcome.sentence()
            record = open_record(site, made.entry, made.manifest)
            assert [each.running for each in record.containers] == [True, False]
            _gone(box, running, still, network, ids)
            # one by the documented command, the other by us
            file = box.vault / next(each.key for each in stored if f"sha256:{each.name.name}" == still.attrs["Image"])
            command = (
                'openssl enc -d -aes-256-cbc -pbkdf2 -pass env:BACKUP_ENCRYPTION_KEY -in "$FILE" | gunzip | docker load'
            )
            done = shell(command, FILE=str(file), DOCKER_HOST=box.engine.host)
            assert done.returncode == 0 and second in done.stdout, done.stderr
            how = [bring_back(site, box.client, "images", image, []) for image in needed(record)]
            assert sorted(how) == ["loaded", "was there"]
            for each in record.networks:
                make_network(box.client, each, record)
            for wanted in record.containers:
                container = make_container(box.client, wanted, record)
                if wanted.running:
                    start(container)
        _as_before(box, running, still)
    finally:
        for name in (running.name, still.name):
            for each in box.client.containers.list(all=True, filters={"name": name}):
                each.remove(force=True)
        for tag in (first, second):
            box.client.images.remove(tag, force=True)


def _gone(box: Box, running: Any, still: Any, network: str, ids: set[str]) -> None:
    for each in (running, still):
        each.remove(force=True)
    box.client.networks.get(network).remove()
    for each in ids:
        box.client.images.remove(each, force=True)


def _as_before(box: Box, running: Any, still: Any) -> None:
    new = box.client.containers.get(running.name)
    assert new.status == "running" and box.client.containers.get(still.name).status == "created"
    before, after = running.attrs, new.attrs
    assert after["Image"] == before["Image"] and after["Config"]["Hostname"] == "the-web"
    for key in ("Env", "Cmd", "Labels"):
        assert after["Config"][key] == before["Config"][key], key
    assert after["HostConfig"]["RestartPolicy"] == before["HostConfig"]["RestartPolicy"]
    assert set(after["NetworkSettings"]["Networks"]) == {f"{box.project}_default"}
    assert new.exec_run(["cat", "/said"]).output.decode() == "first\n"


def test_an_image_of_a_registry_is_pulled_by_its_digest_whatever_its_name_leads_to_now(
    box: Box, servers_directory: Path
) -> None:
    api = box.client.api
    with registry(servers_directory / f"registry-{box.project}") as place, _site(box) as site:
        repository = f"{place.address}/{box.project}/app"
        tag = _pushed(box, repository, "first")
        container = _run(box, "web", tag)
        identity = str(container.attrs["Image"])
        made = backup_one(site, TARGET, tier="daily")
        assert made.manifest.contents["saved"] == [], "what a registry has is not stored"
        ((told,),) = [each["digests"] for each in made.manifest.contents["ran_on"]]
        assert told.startswith(f"{repository}@sha256:")
        (image,) = needed(open_record(site, made.entry, made.manifest))
        container.remove(force=True)
        box.client.images.remove(identity, force=True)
        newer = api.inspect_image(_pushed(box, repository, "second"))["Id"]
        notes: list[str] = []
        try:
            assert bring_back(site, box.client, "images", image, notes) == "pulled" and notes == []
            assert api.inspect_image(identity)["Id"] == identity != newer
            assert api.inspect_image(tag)["Id"] == identity, "its name leads to it again"
            again = _run(box, "web", tag)
            assert again.exec_run(["cat", "/said"]).output.decode() == "first\n"
            again.remove(force=True)
            # a layer that the registry lost breaks the pull off once it has begun; no registry, before
            _forget(box, tag, identity)
            layers = json.loads(place.blob(told.partition("@")[2]).read_text())["layers"]
            place.blob(layers[-1]["digest"]).unlink()
            with pytest.raises(ToolFailed, match="is not stored, and pulling it failed") as refused:
                bring_back(site, box.client, "images", image, notes)
            assert refused.value.remedy.startswith(f"docker pull {told}") and "another image" not in str(refused.value)
        finally:
            _forget(box, tag, newer)
    with _site(box) as site:
        with pytest.raises(ToolFailed, match=f"Pulling {told} failed"):
            bring_back(site, box.client, "images", image, notes)


def test_with_containerds_store_the_registry_is_asked_and_what_it_has_not_is_stored(
    box: Box, servers_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine here has the classic store: it says of itself what one with containerd's does, and the registry is a
    real one."""
    said = docker.DockerClient.info
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    monkeypatch.setattr(docker.DockerClient, "info", lambda self: {**said(self), "DriverStatus": status})
    with registry(servers_directory / f"asked-{box.project}") as place:
        repository = f"{place.address}/{box.project}/app"
        tag = _pushed(box, repository, "first")
        container = _run(box, "web", tag)
        identity = str(container.attrs["Image"])
        ((told,),) = [box.client.api.inspect_image(identity)["RepoDigests"]]
        try:
            assert registry_has(box.client, told)
            assert not registry_has(box.client, f"{repository}@sha256:{'0' * 64}"), "it has another one"
            with _site(box) as site:
                assert backup_one(site, TARGET, tier="daily").manifest.contents["saved"] == []
            place.blob(told.partition("@")[2]).unlink()
            assert not registry_has(box.client, told), "it has it no more"
            with _site(box) as site:
                made = backup_one(site, TARGET, tier="daily")
                assert made.manifest.contents["saved"] == [identity.partition(":")[2]]
                (image,) = needed(open_record(site, made.entry, made.manifest))
                container.remove(force=True)
                _forget(box, identity)
                assert bring_back(site, box.client, "images", image, []) == "loaded"
        finally:
            for each in box.client.containers.list(all=True, filters={"name": container.name}):
                each.remove(force=True)
            _forget(box, tag)
    assert not registry_has(box.client, told), "nobody answers"


def _pushed(box: Box, repository: str, content: str) -> str:
    """An image that a registry has; its name there."""
    box.client.images.get(_build(box, "app", content)).tag(repository, "1")
    answers = list(box.client.api.push(repository, tag="1", stream=True, decode=True))
    assert not any("error" in each for each in answers), answers
    box.client.images.remove(f"{box.project}/app:1")
    return f"{repository}:1"


def _forget(box: Box, *images: str) -> None:
    for each in images:
        with contextlib.suppress(ImageNotFound):
            box.client.images.remove(each, force=True)


def test_one_that_a_backup_stopped_for_the_moment_counts_as_running(box: Box) -> None:
    from engine.journal import Journal
    from engine.services import halt, reserved, resume

    container = _run(box, "web", "backup-flows/busybox:1")
    try:
        with _site(box) as site:
            site.vault.check()
            journal = Journal.create(site.journals, "volume-capture", source="volumes", database="v")
            with reserved([container], site.vault.state / "locks"):
                halt([(container, "stop")], journal, 3)
                made = backup_one(site, TARGET, tier="daily")
                resume(box.client, journal)
            journal.close()
            (found,) = open_record(site, made.entry, made.manifest).containers
            assert found.running
    finally:
        container.remove(force=True)


def test_no_engine_no_containers_and_no_whole_copy_are_told_in_words(box: Box, tmp_path: Path) -> None:
    with _site(box, docker_host=f"unix://{tmp_path}/no.sock") as site:
        with pytest.raises(Unreachable, match="No Docker engine answers"):
            backup_one(site, TARGET, tier="daily")
    with _site(box, project="benchx") as site:
        with pytest.raises(ConfigError, match="compose project 'benchx' has no containers"):
            backup_one(site, TARGET, tier="daily")
    container = _run(box, "web", _build(box, "app", "only"))
    tag = f"{box.project}/app:1"
    try:
        with _site(box) as site:
            made = backup_one(site, TARGET, tier="daily")
            record = open_record(site, made.entry, made.manifest)
            container.remove(force=True)
            box.client.images.remove(tag, force=True)
            ((entry, _),) = copies_of(site, "images", record.images[0].name)
            path = box.vault / entry.key
            body = bytearray(path.read_bytes())
            body[len(body) // 2] ^= 1
            path.chmod(0o600)
            path.write_bytes(bytes(body))
            with pytest.raises(IntegrityError):
                bring_back(site, box.client, "images", record.images[0], [])
            assert not [each for each in box.client.images.list(all=True) if tag in each.tags]
    finally:
        for each in box.client.containers.list(all=True, filters={"name": container.name}):
            each.remove(force=True)

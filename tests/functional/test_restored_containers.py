"""Containers of a machine made anew on a real engine with what they had: volumes, and directories of the host."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from engine import names
from engine.backup import backup_one
from engine.errors import RestoreRefused, ToolFailed
from engine.images import recreate
from engine.images.load import bring_back
from engine.restore_site import report
from engine.restore_site.plan import SiteRequest, make_plan
from engine.restore_site.run import MachineRestore, SiteResult, run
from engine.site import Site
from tests.functional.test_images import _site
from tests.functional.volume_machine import OBEYS, Box
from tests.servers.docker import DockerEngine

IMAGE = """\
FROM backup-flows/busybox:1
RUN mkdir /data /more /anon /unsaved && for each in data more anon unsaved; do echo image > /$each/of-image; done
RUN chown 5:6 /unsaved && chmod 0711 /unsaved
VOLUME /anon
"""


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        tag = f"{made.project}/app:1"
        made.client.images.build(fileobj=io.BytesIO(IMAGE.encode()), tag=tag, rm=True)
        try:
            yield made
        finally:
            made.__exit__()
            for each in made.client.containers.list(all=True, filters={"name": made.project}):
                each.remove(force=True, v=True)
            made.client.images.remove(tag, force=True)


def _run(box: Box, service: str = "app", *, image: str = "", **more: Any) -> Any:
    labels = {"com.docker.compose.project": box.project, "com.docker.compose.service": service}
    return box.client.containers.run(
        image or f"{box.project}/app:1", OBEYS, name=f"{box.project}-{service}-1", labels=labels, detach=True, **more
    )


def _open(box: Box, *volumes: str, **more: Any) -> Site:
    with _site(box) as images:
        named = {"volumes": {**box.document, "volumes": list(volumes)}} if volumes else {}
        body = images.config.model_dump() | named | more
        body["vault"]["keys"] = {"current": "main", "keys": {"main": images.config.vault.keys.keys["main"]}}
        return Site(type(images.config).model_validate(body))


def _back_up(site: Site) -> list[str]:
    """One run; its warnings."""
    point = names.recovery_point()
    made = [backup_one(site, each, tier="daily", recovery_point=point) for each in site.targets()]
    return [warning for each in made for warning in each.manifest.warnings]


def _restore(site: Site) -> SiteResult:
    result = run(site, make_plan(site, SiteRequest()), approved=True)
    assert result.finished, [each.message for each in result.failures.values()]
    return result


def _facts(path: Path) -> tuple[str, int, int, list[str]]:
    status = os.stat(path)
    mode = oct(stat.S_IMODE(status.st_mode))
    return mode, status.st_uid, status.st_gid, sorted(each.name for each in path.iterdir())


def _inside(box: Box, container: Any) -> dict[str, tuple[str, tuple[str, int, int, list[str]]]]:
    """By place inside the volume there, and what it is."""
    container.reload()
    return {
        str(at["Destination"]): (str(at["Name"]), _facts(Path(at["Source"])))
        for at in container.attrs["Mounts"] if at["Type"] == "volume"
    }  # fmt: skip


def _forget(container: Any, *volumes: Any) -> None:
    container.remove(force=True)
    for each in volumes:
        each.remove(force=True)


def test_volumes_stay_as_they_were_restored_and_those_of_no_name_are_had_again(box: Box) -> None:
    for name in ("data", "more", "unsaved"):
        box.volume(name)
    newer = {"Type": "volume", "Source": box.real("more"), "Target": "/more"}
    app = _run(
        box, volumes={box.real("data"): {"bind": "/data", "mode": "rw"}, box.real("unsaved"): {"bind": "/unsaved"}},
        mounts=[newer],
    )  # fmt: skip
    for name in ("data", "more"):  # emptied, and given to somebody
        path = box.path(box.real(name))
        (path / "of-image").unlink()
        os.chown(path, 1000, 1001)
        path.chmod(0o700)
    anonymous = _inside(box, app)["/anon"][0]
    (box.path(anonymous) / "of the application").write_text("data")
    with _open(box, "data", "more", anonymous) as site:
        _back_up(site)
        before = _inside(box, app)
        assert before["/data"][1] == ("0o700", 1000, 1001, [])
        every = [box.client.volumes.get(name) for name, _ in before.values()]
        _forget(app, *every)
        done = _restore(site)
    again = box.client.containers.get(f"{box.project}-app-1")
    assert again.status == "running" and _inside(box, again) == before
    # one that is in no backup is filled from the image, as the engine does with a new one
    assert before["/unsaved"][1] == ("0o711", 5, 6, ["of-image"])
    assert any(f"were made empty: {box.real('unsaved')} (" in each for each in done.done["images: containers"].left)
    box.client.containers.get(again.id).remove(force=True)
    box.client.volumes.get(anonymous).remove(force=True)


def test_what_containers_have_of_the_host_and_no_backup_has_is_told_at_backup_and_at_restore(
    box: Box, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("served", "settings", "cache")}
    for each in places.values():
        each.mkdir()
    app = _run(
        box, volumes={str(path): {"bind": f"/of-{name}", "mode": "ro"} for name, path in places.items()} |
        {"/etc/localtime": {"bind": "/etc/localtime", "mode": "ro"}},
    )  # fmt: skip
    kept = {"paths": [str(places["settings"]), str(places["cache"])], "exclude": [str(places["cache"])]}
    (places["settings"] / "file").write_text("kept")
    told = [f"{places[name]} ({app.name})" for name in ("cache", "served")]
    with _open(box, config=kept) as site:
        assert _back_up(site) == [f"bound into a container from the host, and in no backup: {each}" for each in told]
        app.remove(force=True)
        done = _restore(site)
    (left,) = done.done["images: containers"].left
    assert f"are not restored: {', '.join(told)}; where" in left


def test_a_container_that_stands_there_is_told_from_the_restored_one(box: Box) -> None:
    recorded = [_run(box), _run(box, "job", environment={"VERSION": "one"})]
    names_of = [str(each.name) for each in recorded]
    with _open(box) as site:
        _back_up(site)
        for each in recorded:
            each.remove(force=True)
        # somebody else's of the same name: nothing is begun, and it stays as it is
        planned = make_plan(site, SiteRequest())
        stranger = box.client.containers.create(f"{box.project}/app:1", ["sleep", "1"], name=names_of[0])
        with pytest.raises(
            RestoreRefused, match=f"a container {names_of[0]} here, which is not of the compose project"
        ):
            make_plan(site, SiteRequest())
        late = run(site, planned, approved=True).failures["images: containers"]
        assert "which is not of the compose project" in late.message
        assert box.client.containers.get(names_of[0]).id == stranger.id
        stranger.remove(force=True)
        # what the first try made is ours; a later one of the machine's own is kept, and told where it is another
        assert [each for each in make_plan(site, SiteRequest()).living if names_of[1] in each] == []
        assert _restore(site).done["images: containers"].left == []
        box.client.containers.get(names_of[1]).remove(force=True)
        newer = _run(box, "job", environment={"VERSION": "two"})
        plan = make_plan(site, SiteRequest())
        assert plan.living == [f"container {name} (running)" for name in reversed(names_of)]
        done = run(site, plan, approved=True)
        made = done.done["images: containers"]
        assert made.said == "0 containers made as they were, 2 stood there and were kept"
        (left,) = made.left
        assert f"container {newer.name} stood there already" in left and "(environment, volumes)" in left
        assert left.endswith(f"docker rm -f {newer.name}, then: backups restore-site --only images")
        newer.remove(force=True)
        box.client.containers.run("backup-flows/busybox:1", OBEYS, name=names_of[1], labels=newer.labels, detach=True)
        living = make_plan(site, SiteRequest()).living
        assert f"container {names_of[1]} (running, of another image than recorded)" in living


def test_an_image_whose_name_is_taken_back_is_kept_under_another_and_told(box: Box, named: list[str]) -> None:
    latest = f"{box.project}/app:latest"
    named.append(latest)
    image = box.client.images.get(f"{box.project}/app:1")
    image.tag(latest)
    app = _run(box)
    with _open(box) as site:
        _back_up(site)
        newer = _built(box, latest)
        plan = make_plan(site, SiteRequest())
        (told,) = [each for each in plan.lines() if latest in each]
        assert f"{latest} leads to another image here ({newer[:19]}) than recorded" in told
        done = run(site, plan, approved=True)
        assert done.finished and box.client.images.get(latest).id == image.id, "as it was recorded"
        (kept,) = box.client.images.get(newer).tags
        named.append(kept)
        (left,) = done.done["images/images"].left
        assert kept.startswith(f"{latest}_before_20") and left.endswith(f": docker tag {kept} {latest}")
        assert left in report.left(site.config, plan, done)
        assert not [each for each in make_plan(site, SiteRequest()).lines() if latest in each], "it leads there now"
        # broken off after one name was moved: the next run still tells of it
        box.client.images.get(newer).tag(latest)
        with MachineRestore(site, make_plan(site, SiteRequest())) as broken, pytest.MonkeyPatch.context() as patched:
            patched.setattr("engine.restore_site.containers.bring_back", _moved_and_then(bring_back))
            with pytest.raises(ToolFailed):
                broken.do(broken.plan.steps[0])
        assert box.client.images.get(latest).id == image.id
        assert _restore(site).done["images/images"].left == [left] and box.client.images.get(newer).tags == [kept]
    app.remove(force=True)


def _moved_and_then(real: Any) -> Any:
    def fails(*arguments: Any, **more: Any) -> Any:
        real(*arguments, **more)
        raise ToolFailed("The engine went away.")

    return fails


def test_a_name_that_an_image_had_only_when_it_was_stored_stays_where_it_leads(box: Box, named: list[str]) -> None:
    first, second = f"{box.project}/other:first", f"{box.project}/other:second"
    named += [first, second]
    recorded = _built(box, first)
    app = _run(box, image=first)
    with _open(box) as site:
        _back_up(site)
        newer = _built(box, first, "three")
        box.client.images.get(recorded).tag(second)
        _back_up(site)
        app.remove(force=True)
        box.client.images.remove(second)
        result = _restore(site).done["images/images"]
        assert (result.said, result.left) == ("1 image: 1 loaded", [])
        assert box.client.images.get(first).id == newer and box.client.images.get(second).id == recorded
    box.client.containers.get(app.name).remove(force=True)


@pytest.fixture
def named(box: Box) -> Iterator[list[str]]:
    """Further names of images, which go in the end."""
    given: list[str] = []
    yield given
    for container in box.client.containers.list(all=True, filters={"name": box.project}):
        container.remove(force=True)
    for each in given:
        with contextlib.suppress(ImageNotFound):
            box.client.images.remove(each, force=True)


def _built(box: Box, tag: str, version: str = "two") -> str:
    """A newer image of that name; its id."""
    newer = io.BytesIO(f"FROM {box.project}/app:1\nENV VERSION={version}\n".encode())
    return str(box.client.images.build(fileobj=newer, tag=tag, rm=True)[0].id)


def test_a_container_in_the_network_of_another_is_made_again(box: Box) -> None:
    first = _run(box, "web", hostname="the-web", domainname="example.org", ports={"80/tcp": None})
    side = _run(box, "side", network_mode=f"container:{first.id}")
    with _open(box) as site:
        _back_up(site)
        for each in (side, first):
            each.remove(force=True)
        _restore(site)
    again = box.client.containers.get(str(side.name))
    assert again.attrs["HostConfig"]["NetworkMode"] in (
        f"container:{first.name}", f"container:{box.client.containers.get(str(first.name)).id}"
    )  # fmt: skip
    assert again.exec_run(["hostname"]).output.decode().strip() == "the-web"
    # whoever has the one started has the other started before it
    for each in (again, box.client.containers.get(str(first.name))):
        each.stop(timeout=1)
    recreate.start(again)
    again.reload()
    assert again.status == box.client.containers.get(str(first.name)).status == "running"


def test_a_container_with_the_name_of_its_host_is_made_again(box: Box) -> None:
    own = _run(box, "own", network_mode="host", uts_mode="host")
    with _open(box) as site:
        _back_up(site)
        own.remove(force=True)
        _restore(site)
    assert box.client.containers.get(str(own.name)).attrs["HostConfig"]["UTSMode"] == "host"

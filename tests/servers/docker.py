"""A private Docker engine: own data, own socket, own bridge, own containerd; nothing shared with another."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container

from tests.servers import images, rundir

READY_SECONDS = 60.0


@dataclass(frozen=True)
class DockerEngine:
    """A running private engine. ``host`` goes into ``DOCKER_HOST``."""

    host: str
    _clients: list[docker.DockerClient] = field(default_factory=list, repr=False)

    def client(self) -> docker.DockerClient:
        """A client for this engine; closed with it."""
        client = docker.DockerClient(base_url=self.host, timeout=120)
        self._clients.append(client)
        return client

    def load(self, recipe: str) -> str:
        """Bring an image into the engine, once, and return its tag. Builds it when the cache lacks it."""
        wanted = images.RECIPES[recipe]
        client = self.client()
        try:
            client.images.get(wanted.tag)
        except ImageNotFound:
            root = f"{wanted.tag.rsplit(':', 1)[0]}-root"
            changes = [] if wanted.suite else list(wanted.changes)
            repository, tag = (root, "latest") if wanted.suite else wanted.tag.split(":")
            answer = client.api.import_image_from_file(
                str(images.archive(recipe)), repository=repository, tag=tag, changes=changes
            )
            assert "error" not in answer, answer
            if wanted.suite:
                client.images.build(fileobj=_context(wanted, root), custom_context=True, tag=wanted.tag, rm=True)
        return wanted.tag

    def service(
        self,
        project: str,
        service: str,
        recipe: str,
        *,
        name: str | None = None,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Container:
        """Start a container as ``docker compose up`` would: labels, project network, no published port."""
        client = self.client()
        network = f"{project}_default"
        labels = {"com.docker.compose.project": project}
        if not client.networks.list(names=[f"^{network}$"]):
            client.networks.create(network, labels={**labels, "com.docker.compose.network": "default"})
        labels |= {
            "com.docker.compose.service": service,
            "com.docker.compose.container-number": "1",
            "com.docker.compose.oneoff": "False",
        }
        container = client.containers.run(
            self.load(recipe),
            command=list(command or []) or None,
            name=name or f"{project}-{service}-1",
            environment=dict(environment or {}),
            labels=labels,
            network=network,
            volumes=dict(volumes or {}),
            detach=True,
        )
        container.reload()
        return container

    def address(self, container: Container) -> str:
        """Address of a container on its first network, reachable from this host."""
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"].values()
        return str(next(network["IPAddress"] for network in networks if network["IPAddress"]))


def _context(recipe: images.Recipe, root: str) -> io.BytesIO:
    """A build context that puts the entry point on top of the bootstrapped system."""
    entry = "/usr/local/bin/docker-entrypoint.sh"
    dockerfile = "\n".join([f"FROM {root}:latest", f"COPY entrypoint.sh {entry}", *recipe.changes])
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in (("Dockerfile", dockerfile.encode()), ("entrypoint.sh", recipe.entrypoint.read_bytes())):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    context.seek(0)
    return context


@contextlib.contextmanager
def private_engine(directory: Path) -> Iterator[DockerEngine]:
    """Start an engine that keeps everything in ``directory``; containers and networks go with it."""
    directory.mkdir()
    pool = _free_network()
    bridge = f"bf{secrets.token_hex(4)}"
    (directory / "network").write_text(str(pool))
    _make_bridge(bridge, next(pool.subnets(new_prefix=24)))
    host = f"unix://{directory}/docker.sock"
    with (directory / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            _command(directory, host, bridge, pool),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(directory)},
        )
    engine = DockerEngine(host)
    try:
        _wait_until_ready(engine, process, directory / "dockerd.log")
        yield engine
        _remove_everything(engine)
    finally:
        for client in engine._clients:
            client.close()
        _end(process)
        rundir.remove_bridges(pool)


def _command(directory: Path, host: str, bridge: str, pool: ipaddress.IPv4Network) -> list[str]:
    networks = list(pool.subnets(new_prefix=17))[1]
    return [
        shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin") or "dockerd",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/dockerd.pid",
        f"--host={host}",
        f"--bridge={bridge}",
        f"--default-address-pool=base={networks},size=24",
        # Packet filter rules are shared by all engines of a machine: ours makes none. This host reaches
        # containers through the bridge without any.
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        # A system-wide containerd, where there is one, must not mix our containers with its own.
        f"--containerd-namespace={bridge}",
        f"--containerd-plugins-namespace=plugins-{bridge}",
        "--log-level=warn",
    ]


def _free_network() -> ipaddress.IPv4Network:
    """A /16 of 10.0.0.0/8 that no route of this host touches."""
    listing = subprocess.run(["ip", "-json", "-4", "route"], check=True, capture_output=True).stdout
    destinations = [route["dst"] for route in json.loads(listing or "[]") if route["dst"] != "default"]
    taken = [ipaddress.ip_network(destination, strict=False) for destination in destinations]
    for second in random.sample(range(64, 256), 192):
        network = ipaddress.IPv4Network(f"10.{second}.0.0/16")
        if not any(network.overlaps(other) for other in taken):
            return network
    raise AssertionError("no free network in 10.0.0.0/8 for a private Docker engine")


def _make_bridge(name: str, network: ipaddress.IPv4Network) -> None:
    for arguments in (
        ["link", "add", name, "type", "bridge"],
        ["address", "add", f"{network[1]}/{network.prefixlen}", "dev", name],
        ["link", "set", name, "up"],
    ):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _wait_until_ready(engine: DockerEngine, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            # The first thing a client does is to ask for the API's version.
            engine.client().ping()
            return
        except DockerException as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise AssertionError(f"dockerd does not answer:\n{tail}") from error
            time.sleep(0.1)


def _remove_everything(engine: DockerEngine) -> None:
    """Containers first, then the bridges of their networks: the engine leaves those behind when it ends."""
    client = engine.client()
    for container in client.containers.list(all=True):
        with contextlib.suppress(DockerException):
            container.remove(force=True, v=True)
    for network in client.networks.list():
        if network.name not in ("bridge", "host", "none"):
            with contextlib.suppress(DockerException):
                network.remove()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""A Docker engine behind TLS that asks for a certificate: volumes are read and written through it."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.backup import preflight
from engine.errors import ConfigError, Unreachable
from engine.site import Target
from tests.functional.volume_machine import MB, Box
from tests.servers.docker import DockerEngine


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem; server.pem and client.pem with their keys."""
    folder = tmp_path_factory.mktemp("tls")
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    _run([*new, "-subj", "/CN=FAKE test CA", "-keyout", "ca.key", "-out", "ca.pem"], folder)
    for name in ("server", "client"):
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
        signed += ["-addext", "basicConstraints=critical,CA:FALSE"]
        _run([*new, *signed, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"], folder)
    return folder


@pytest.fixture
def box(dockerd: DockerEngine, tmp_path: Path) -> Iterator[Box]:
    dockerd.load("busybox")
    with Box(dockerd, tmp_path) as made:
        yield made


def test_volumes_are_read_and_written_through_an_engine_elsewhere(
    dockerd: DockerEngine, box: Box, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests prefers these to what a session says
        monkeypatch.delenv(name, raising=False)
    root = box.volume("notebooks")
    (root / "folder").mkdir(mode=0o750)
    (root / "folder/data").write_bytes(os.urandom(3 * MB))
    os.link(root / "folder/data", root / "other name")
    files = {f"tls_{name}": str(certificates / file) for name, file in
             (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))}  # fmt: skip
    with _door(dockerd.host, certificates) as host:
        box.document |= {"docker_host": host, **files}
        made = box.back_up("notebooks")
        assert made.manifest.contents["read"] == "archive" and made.manifest.incomplete == []
        assert any("the engine is reached over the network" in each for each in made.manifest.warnings)
        again = box.path(box.restore("notebooks").into)
        assert (again / "folder/data").read_bytes() == (root / "folder/data").read_bytes()
        assert (again / "other name").stat().st_ino == (again / "folder/data").stat().st_ino
        assert (again / "folder").stat().st_mode & 0o7777 == 0o750
        with pytest.raises(Unreachable):
            with box.open(tls_cert=None, tls_key=None) as site:
                preflight(site, Target("volumes", "notebooks"))
        with pytest.raises(ConfigError, match="tls_cert and tls_key belong together"):
            with box.open(tls_key=None) as site:
                preflight(site, Target("volumes", "notebooks"))


@contextlib.contextmanager
def _door(engine: str, certificates: Path) -> Iterator[str]:
    """A TLS endpoint in front of an engine's socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(raw: socket.socket) -> None:
        inner = socket.socket(socket.AF_UNIX)
        inner.connect(engine.removeprefix("unix://"))
        try:
            outer = context.wrap_socket(raw, server_side=True)
        except OSError:
            inner.close()
            return
        back = threading.Thread(target=_copy, args=(inner, outer), daemon=True)
        back.start()
        _copy(outer, inner)
        back.join()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _run(command: list[str], where: Path) -> None:
    subprocess.run(command, cwd=where, check=True, capture_output=True)

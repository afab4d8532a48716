"""Pure parts of n8n: its own encryption, and what counts as the same workflow."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from engine.errors import IntegrityError, WrongKey
from engine.manifest import Manifest
from engine.n8n.parts import opened, read_parts, same_workflow

KEY = "FAKE-key-of-n8n"


def sealed(data: Any, key: str = KEY) -> str:
    """As CryptoJS seals, by stock openssl."""
    done = subprocess.run(
        ["openssl", "enc", "-aes-256-cbc", "-md", "md5", "-salt", "-base64", "-A", "-pass", "env:KEY"],
        input=json.dumps(data).encode(), env={"KEY": key, "PATH": "/usr/bin:/bin"}, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode()


@pytest.mark.parametrize("data", [{"user": "me", "password": "FAKE"}, {}, {"long": "ü" * 1000}])
def test_a_credential_opens_with_its_key_and_no_other(data: dict[str, str]) -> None:
    credential = {"id": "1", "name": "token", "type": "basic", "data": sealed(data)}
    assert opened(credential, KEY) == data
    with pytest.raises(WrongKey, match="does not open the credential 'token'") as told:
        opened(credential, "FAKE-other")
    assert "FAKE" not in str(told.value)


@pytest.mark.parametrize(
    "data",
    [None, "", "no base64!", "aGVsbG8=", sealed({})[:-8]],
    ids=["none", "empty", "no base64", "not sealed", "cut off"],
)
def test_a_credential_that_is_none_is_refused(data: str | None) -> None:
    with pytest.raises(WrongKey):
        opened({"id": "1", "name": "x", "type": "y", "data": data}, KEY)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"versionId": "other", "updatedAt": "later", "active": True}, True),
        ({"staticData": {"seen": 5}, "pinData": None}, True),
        ({"name": "other"}, False), ({"nodes": []}, False), ({"settings": {"a": 1}}, False),
        ({"tags": [{"name": "x"}]}, False), ({"isArchived": True}, False),
    ],
)  # fmt: skip
def test_a_workflow_is_the_same_when_what_a_person_made_of_it_is(change: dict[str, Any], same: bool) -> None:
    one = {"id": "1", "name": "w", "nodes": [{"id": "1"}], "connections": {}, "settings": {}, "active": False}
    assert same_workflow(one, {**one, **change}) is same


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"name": "no id"}]', b"\xff"])
def test_parts_that_are_not_what_they_should_be_are_refused(data: bytes) -> None:
    manifest = Manifest.model_construct(file="n8n_20250116_020000.json.gz.enc")
    with pytest.raises(IntegrityError):
        read_parts(manifest, lambda role: [data])

"""Making another key the current one in a site file: one value is exchanged, every other character stays."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

import yaml

from deployments.yaml_lines import parse
from engine.errors import ConfigError

_AT = ("vault", "keys", "current")
_BEFORE_VALUE = re.compile(r"(?:[&!]\S*\s+)*")
"""Anchors and tags, which a node begins with."""


def set_current(path: Path, key_id: str) -> bool:
    """Write the id of the current key into the site file; False when it stood there already.

    Raises:
        ConfigError: The file does not name it in a way that can be exchanged; it was not touched.
    """
    with path.open(encoding="utf-8", newline="") as file:  # line ends stay as they are
        text = file.read()
    node = _node(yaml.compose(text, yaml.SafeLoader))
    if node is None or "${" in node.value:
        where = f" (line {node.start_mark.line + 1})" if node is not None else ""
        raise _by_hand(f"{path} does not name its current key in plain text{where}.", key_id)
    if node.value == key_id:
        return False
    if node.style in ("|", ">"):
        raise _by_hand(f"{path} names its current key in a text block (line {node.start_mark.line + 1}).", key_id)
    _replace(path, _exchanged(path, text, node, key_id))
    return True


def _exchanged(path: Path, text: str, node: yaml.ScalarNode, key_id: str) -> str:
    """The text with the id in the place of the node's value, in quotes where it had some or needs some."""
    before, now, after = (
        text[: node.start_mark.index],
        text[node.start_mark.index : node.end_mark.index],
        text[node.end_mark.index :],
    )
    kept = _BEFORE_VALUE.match(now)
    before += kept[0] if kept else ""
    single = "'" + key_id.replace("'", "''") + "'"
    own = {'"': json.dumps(key_id, ensure_ascii=False), "'": single}.get(node.style or "", key_id)
    wanted = parse(text, str(path)).data
    wanted["vault"]["keys"]["current"] = key_id
    for value in (own, single):
        changed = f"{before}{value}{after}"
        with contextlib.suppress(ConfigError):
            if parse(changed, str(path)).data == wanted:
                return changed
    raise _by_hand(
        f"{path} cannot be changed safely: its current key is shared with another setting (an alias?).", key_id
    )


def _node(node: yaml.Node | None) -> yaml.ScalarNode | None:
    for part in _AT:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == part), None)
    return node if isinstance(node, yaml.ScalarNode) else None


def _by_hand(why: str, key_id: str) -> ConfigError:
    return ConfigError(
        why,
        kept="the file was not touched",
        remedy=f"write it there yourself, below vault.keys: current: {key_id}",
    )


def _replace(path: Path, text: str) -> None:
    """The whole file or none of it, with the mode and owner it had."""
    path = path.resolve()
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        known = path.stat()
        os.chmod(fresh, known.st_mode & 0o7777)
        if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(fresh, known.st_uid, known.st_gid)
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise

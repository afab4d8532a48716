"""Making another key the current one in a site file: one value is exchanged, every other character stays."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import yaml

from deployments.yaml_lines import parse
from engine.errors import ConfigError

_AT = ("vault", "keys", "current")


def set_current(path: Path, key_id: str) -> bool:
    """Write the id of the current key into the site file; False when it stood there already.

    Raises:
        ConfigError: The file does not name it in a way that can be exchanged; it was not touched.
    """
    text = path.read_text(encoding="utf-8")
    node = _node(yaml.compose(text, yaml.SafeLoader))
    if node is None or "${" in node.value:
        where = f" (line {node.start_mark.line + 1})" if node is not None else ""
        raise ConfigError(
            f"{path} does not name its current key in plain text{where}.",
            kept="the file was not touched",
            remedy=f"write it there yourself, below vault.keys: current: {key_id}",
        )
    if node.value == key_id:
        return False
    quote = {"'": "'", '"': '"'}.get(node.style or "", "")
    changed = text[: node.start_mark.index] + f"{quote}{key_id}{quote}" + text[node.end_mark.index :]
    _refuse_other_changes(path, text, changed, key_id)
    _replace(path, changed)
    return True


def _node(node: yaml.Node | None) -> yaml.ScalarNode | None:
    for part in _AT:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == part), None)
    return node if isinstance(node, yaml.ScalarNode) else None


def _refuse_other_changes(path: Path, before: str, after: str, key_id: str) -> None:
    wanted = parse(before, str(path)).data
    wanted["vault"]["keys"]["current"] = key_id
    try:
        same = parse(after, str(path)).data == wanted
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(
            f"{path} cannot be changed safely: its current key is shared with another setting (an alias?).",
            kept="the file was not touched",
            remedy=f"write it there yourself, below vault.keys: current: {key_id}",
        )


def _replace(path: Path, text: str) -> None:
    """The whole file or none of it, with the mode and owner it had."""
    path = path.resolve()
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
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

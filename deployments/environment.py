"""``${NAME}`` and ``${NAME:-default}`` in a site file, from the environment and a ``.env`` file.

Values are put in after the YAML was read, so a secret may hold any character. ``$${NAME}`` stands for
the text ``${NAME}`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.yaml_lines import Path_
from engine.errors import ConfigError

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{(?P<odd>[^}]*)\}?")
_ASSIGNMENT = re.compile(r"^(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)$")
_DOUBLE = re.compile(r'^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$')
_SINGLE = re.compile(r"^'([^']*)'\s*(?:#.*)?$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass
class Filled:
    """What came of putting the environment into a document.

    Attributes:
        data: The document with values in place.
        unset: Paths of every use, by name, of names that have no value.
        from_environment: Paths of values that hold something from outside; never quoted in messages.
        odd: Paths of ``${...}`` that cannot be read.
    """

    data: Any = None
    unset: dict[str, list[Path_]] = field(default_factory=dict)
    from_environment: set[Path_] = field(default_factory=set)
    odd: list[Path_] = field(default_factory=list)


def fill(data: Any, env: Mapping[str, str]) -> Filled:
    """Replace every reference in the text values of a document. Raises nothing: see ``unset``, ``odd``."""
    filled = Filled()
    filled.data = _fill(data, (), env, filled)
    return filled


def _fill(value: Any, path: Path_, env: Mapping[str, str], filled: Filled) -> Any:
    if isinstance(value, dict):
        return {key: _fill(each, (*path, key), env, filled) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, (*path, index), env, filled) for index, each in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def replace(found: re.Match[str]) -> str:
        if found["odd"] is not None:
            filled.odd.append(path)
            return ""
        if found["name"] is None:
            return "${"
        filled.from_environment.add(path)
        given = env.get(found["name"], "")
        if given or found["default"] is not None:
            return given or found["default"]
        filled.unset.setdefault(found["name"], []).append(path)
        return ""

    text = _REFERENCE.sub(replace, value)
    return text or None  # ``${NAME:-}`` with nothing in it is the same as leaving the setting out


def read_dotenv(path: Path) -> dict[str, str]:
    """Names and values of a ``.env`` file: ``NAME=value``, ``export``, quotes, ``#`` comments.

    Nothing is expanded: a ``$`` in a value stays a ``$``.

    Raises:
        ConfigError: It cannot be read, or a line is neither of these; the line's text is not quoted.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}.", remedy=f"look at: ls -l {path}") from None
    return read_dotenv_text(text, str(path))


def read_dotenv_text(text: str, path: str) -> dict[str, str]:
    """The same from a file's text; ``path`` names it in messages. Raises ConfigError."""
    values = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _ASSIGNMENT.match(line)
        value = _unquote(found["value"].strip()) if found else None
        if found is None or value is None:
            raise ConfigError(
                f"{path}, line {number}: this is not NAME=value, or a quote is not closed.",
                remedy="write one NAME=value a line, with the value in quotes if it holds spaces or #",
            )
        values[found["name"]] = value
    return values


def _unquote(text: str) -> str | None:
    """A value without its quotes or trailing comment; None when a quote stays open."""
    if text.startswith('"'):
        found = _DOUBLE.match(text)
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), found[1]) if found else None
    if text.startswith("'"):
        found = _SINGLE.match(text)
        return found[1] if found else None
    if text.startswith("#"):
        return ""
    return re.split(r"\s#", text, maxsplit=1)[0].strip()

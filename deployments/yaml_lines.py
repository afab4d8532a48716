"""YAML as plain text values, each with the line it stands on.

Only mappings, lists and scalars are read; tags that would build objects are refused. Every scalar
stays the text that was written (``0123`` and ``yes`` too, so that no password loses a digit), only
an empty value or ``null`` becomes None. Error texts never quote a value: it may be a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine.errors import ConfigError

Path_ = tuple[str | int, ...]
"""Where a value stands: ``("vault", "replicas", 0, "bucket")``."""

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{tag}" for tag in ("str", "int", "float", "bool", "null", "timestamp", "value", "map", "seq")
}
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_MAX_VALUES = 20_000


@dataclass
class Document:
    """A YAML file's content.

    Attributes:
        data: Dicts with text keys, lists, text and None.
        lines: Line number, from 1, of every value by its path.
    """

    data: Any = None
    lines: dict[Path_, int] = field(default_factory=dict)

    def line(self, path: Path_) -> int | None:
        """The line of a value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        ConfigError: It cannot be read, is no YAML, holds a key twice, or uses a tag.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.", remedy=f"convert it: iconv -t UTF-8 {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", remedy=f"look at: ls -l {path}") from None
    return parse(text, str(path))


def parse(text: str, where: str) -> Document:
    """Read YAML text; ``where`` names it in errors. Raises ConfigError."""
    problem = ""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        problem = _syntax(error)
    except yaml.YAMLError:
        problem = "it holds a character that YAML does not allow"
    if problem:  # raised here, so that the parser's own message, which quotes the line, is not chained
        raise ConfigError(
            f"{where} is not valid YAML: {problem}.",
            remedy="put values that hold any of : # { } [ ] * & ! % @ ` in quotes (inside {...} and [...] "
            'also "${NAME}"), and indent with spaces',
        )
    document = Document()
    if node is not None:
        document.data = _Builder(loader, document.lines, where).build(node, ())
    return document


def _syntax(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    what = _QUOTED.sub(_unquoted, error.problem or error.context or "it cannot be read")
    return f"line {mark.line + 1}, column {mark.column + 1}: {what}" if mark else what


def _unquoted(found: re.Match[str]) -> str:
    """Punctuation that the parser names may be shown; a word may be a secret."""
    inner = found[1] or found[2] or ""
    return found[0] if len(inner) < 2 or inner[0] in "<\\" else "..."


class _Builder:
    """Turns parsed nodes into plain values and notes their lines."""

    def __init__(self, loader: yaml.SafeLoader, lines: dict[Path_, int], where: str) -> None:
        self._loader = loader
        self._lines = lines
        self._where = where
        self._open: set[int] = set()
        self._checked: set[int] = set()

    def build(self, node: yaml.Node, path: Path_) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._open or len(self._lines) > _MAX_VALUES:
            raise self._error(node, "an alias repeats without end")
        if node.tag not in _PLAIN_TAGS:
            raise self._error(node, "a value starts with !; tags are not used here, so put it in quotes")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        if id(node) not in self._checked:
            self._refuse_twice(node, path)
            self._checked.add(id(node))
        if any(key.tag == _MERGE for key, _ in node.value):
            try:
                self._loader.flatten_mapping(node)  # ``<<: *anchor``: merged keys first, own keys win
            except yaml.YAMLError:
                raise self._error(node, "'<<' takes a mapping") from None
        built: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value)
            self._lines[(*path, name)] = key.start_mark.line + 1
            built[name] = self.build(value, (*path, name))
        return built

    def _refuse_twice(self, node: yaml.MappingNode, path: Path_) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be plain text; a value that starts with { needs quotes")
            line = key.start_mark.line + 1
            if key.value in seen:
                raise self._error(
                    key, f"{dotted((*path, key.value))} stands here a second time (first: line {seen[key.value]})"
                )
            seen[key.value] = line

    def _scalar(self, node: yaml.ScalarNode) -> str | None:
        return None if node.tag == _NULL and node.style is None else str(node.value)

    def _error(self, node: yaml.Node, what: str) -> ConfigError:
        return ConfigError(f"{self._where}, line {node.start_mark.line + 1}: {what}.", remedy="edit that line")


def dotted(path: Path_) -> str:
    """A path as people write it: ``vault.replicas[0].bucket``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text

"""The shape of a site file: short forms written out, and pydantic's findings said in words."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deployments.yaml_lines import Path_, dotted
from engine.errors import nearest
from engine.names import TIERS
from engine.retention.policy import parse

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

Problem = tuple[Path_, str]
"""Where in the file, and what is wrong there."""

KINDS = ("mysql", "postgres", "volumes", "images", "buckets", "n8n", "config")
_ONE_OR_MANY = (*KINDS, "health", "alerts")
_ADDRESS = ("url", "integration_key", "api_key")


@dataclass
class Shaped:
    """A document in the one form that ``SiteConfig`` reads.

    Attributes:
        data: The document.
        problems: What was found on the way.
        origin: Paths in the file as written, by the path in ``data``, where these differ.
    """

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    origin: dict[Path_, Path_] = field(default_factory=dict)

    def written(self, path: Path_) -> Path_:
        """The path in the file of something found at ``path``."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origin:
                return self.origin[path[:length]] + path[length:]
        return path


def normalise(data: dict[str, Any], from_environment: Collection[Path_] = ()) -> Shaped:
    """Write out the short forms: empty settings, one server instead of a list, a flat key ring; and leave out alerts
    whose address is to come from the environment (``from_environment``), where it is empty."""
    shaped = Shaped(_without_empty(data))
    for name in _ONE_OR_MANY:
        if isinstance(shaped.data.get(name), dict):
            shaped.data[name] = [shaped.data[name]]
            shaped.origin[(name, 0)] = (name,)
    _leave_out_alerts(shaped, from_environment)
    vault = shaped.data.get("vault")
    if isinstance(vault, dict):
        _write_out_keys(vault, shaped)
        _check_ages(vault, shaped)
        _check_directories(vault, shaped)
    return shaped


def _leave_out_alerts(shaped: Shaped, from_environment: Collection[Path_]) -> None:
    alerts = shaped.data.get("alerts")
    if not isinstance(alerts, list):
        return
    kept: list[Any] = []
    for number, alert in enumerate(alerts):
        at = shaped.written(("alerts", number))
        unset = any((*at, name) in from_environment for name in _ADDRESS)
        if isinstance(alert, dict) and unset and not any(alert.get(name) for name in _ADDRESS):
            continue
        shaped.origin[("alerts", len(kept))] = at
        kept.append(alert)
    shaped.data["alerts"] = kept


def _without_empty(value: Any) -> Any:
    """A setting with nothing after the colon is the same as one left out."""
    if isinstance(value, dict):
        return {key: _without_empty(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_empty(each) for each in value]
    return value


def _write_out_keys(vault: dict[str, Any], shaped: Shaped) -> None:
    at: Path_ = ("vault", "keys")
    ring = vault.get("keys")
    if not ring:
        shaped.problems.append(
            (
                at,
                "vault.keys is missing: give an encryption key, such as "
                'keys: {current: main, main: "${BACKUP_ENCRYPTION_KEY}"}; make one with: openssl rand -base64 48',
            )
        )
        return
    if not isinstance(ring, dict):
        return
    if isinstance(ring.get("keys"), dict):
        nested = dict(ring)
    else:
        keys = {key: value for key, value in ring.items() if key != "current"}
        nested = {"keys": keys, **({"current": ring["current"]} if "current" in ring else {})}
        shaped.origin[(*at, "keys")] = at
    if "current" not in nested and len(nested["keys"]) == 1:
        nested["current"] = next(iter(nested["keys"]))
    current = nested.get("current")
    if current is None:
        shaped.problems.append(
            (at, f"vault.keys has {len(nested['keys'])} keys; say which one new backups use: current: ID")
        )
    elif isinstance(current, str) and current not in nested["keys"]:
        hint = nearest(current, list(nested["keys"]))
        shaped.problems.append(((*at, "current"), f"vault.keys.current names a key that is not in the ring. {hint}"))
    vault["keys"] = nested


def _check_ages(vault: dict[str, Any], shaped: Shaped) -> None:
    """Each rule at its own line, of the vault and of its replicas. One that is wrong is not looked at again."""
    replicas = vault.get("replicas")
    _check_rules(vault.get("retention"), ("vault", "retention"), shaped)
    for number, replica in enumerate(replicas if isinstance(replicas, list) else ()):
        if isinstance(replica, dict):
            _check_rules(replica.get("retention"), ("vault", "replicas", number, "retention"), shaped)


def _check_rules(retention: object, under: Path_, shaped: Shaped) -> None:
    if not isinstance(retention, dict):
        return
    for tier, rule in list(retention.items()):
        at: Path_ = (*under, tier)
        known = len(shaped.problems)
        _check_tier(tier.rsplit("/", 1)[-1], at, shaped)
        if isinstance(rule, str):
            try:
                parse(rule)
            except ValueError as error:
                shaped.problems.append((at, f"{dotted(at)} {error}"))
        if len(shaped.problems) > known:
            del retention[tier]


def _check_directories(vault: dict[str, Any], shaped: Shaped) -> None:
    directories = vault.get("directories")
    for name in directories if isinstance(directories, dict) else ():
        _check_tier(name.rsplit("/", 1)[-1], ("vault", "directories", name), shaped)


def _check_tier(tier: str, at: Path_, shaped: Shaped) -> None:
    known = list(TIERS)
    if tier not in known and tier != "*":
        shaped.problems.append((at, f"{dotted(at)} names no tier. {nearest(tier, known)}"))


def problems(error: ValidationError, shaped: Shaped, hidden: set[Path_]) -> list[Problem]:
    """Each finding of pydantic as a sentence.

    Args:
        hidden: Paths (as written) of values that must not be quoted.
    """
    told = []
    for each in error.errors(include_url=False):
        at = shaped.written(each["loc"])
        told.append((at, _sentence(each, at, quote=at not in hidden and _may_quote(each["loc"]))))
    return told


def _sentence(error: ErrorDetails, at: Path_, *, quote: bool) -> str:
    kind, name = error["type"], dotted(at) or "the file"
    if kind == "extra_forbidden":
        model = _model_at(error["loc"][:-1])
        around = dotted(at[:-1])
        hint = nearest(str(at[-1]), list(model.model_fields)) if model else ""
        return f"{name} is no setting of {around or 'a site file'}. {hint}".rstrip()
    if kind == "missing":
        model = _model_at(error["loc"][:-1])
        about = model.model_fields[str(error["loc"][-1])].description if model else None
        return f"{name} is missing" + (f": {about[0].lower()}{about[1:]}" if about else "")
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    allowed = "a mapping of settings, or a list of such" if len(at) == 1 and at[0] in _ONE_OR_MANY else _allowed(error)
    return f"{name} must be {allowed}" + (f", not {_found(error.get('input'))}" if quote else _kind(error.get("input")))


_ALLOWED: dict[str, Callable[[dict[str, Any]], str]] = {
    "literal_error": lambda ctx: f"one of {ctx['expected']}",
    "string_pattern_mismatch": lambda ctx: "small letters, digits and dashes, beginning with a letter or digit",
    "greater_than": lambda ctx: f"more than {ctx['gt']}",
    "greater_than_equal": lambda ctx: f"at least {ctx['ge']}",
    "less_than": lambda ctx: f"less than {ctx['lt']}",
    "less_than_equal": lambda ctx: f"at most {ctx['le']}",
}
_TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "list": "a list, such as [one, two]",
    "dict": "a mapping of names to values",
    "model": "a mapping of settings",
}


def _allowed(error: ErrorDetails) -> str:
    known = _ALLOWED.get(error["type"])
    if known:
        return known(error.get("ctx", {}))
    return _TYPES.get(error["type"].split("_")[0], "valid")


def _found(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else value[:57] + "...")
    return _shape(value)


def _kind(value: Any) -> str:
    """For a value that may not be quoted: its shape, where that is what is wrong."""
    return "" if isinstance(value, str) else f", not {_shape(value)}"


def _shape(value: Any) -> str:
    return {dict: "a mapping", list: "a list", type(None): "empty"}.get(type(value), "this")


def _may_quote(loc: Path_) -> bool:
    """Is the setting at ``loc`` known, plain and not declared secret?"""
    model = _model_at(loc[:-1]) if loc else None
    known = model.model_fields.get(str(loc[-1])) if model else None
    if known is None:
        return False
    return all(
        leaf in (str, int, float, bool, type(None)) or typing.get_origin(leaf) is typing.Literal
        for leaf in _leaves(known.annotation)
    )


def _model_at(loc: Path_) -> type[BaseModel] | None:
    """The model whose settings stand at a path, or None where a path leads to no model."""
    from pydantic import BaseModel

    from engine.config import SiteConfig

    model: type[BaseModel] = SiteConfig
    for part in loc:
        if isinstance(part, int):
            continue  # an item of the list that was just entered
        known = model.model_fields.get(part)
        if known is None:
            return None
        inner = [leaf for leaf in _leaves(known.annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]
        if not inner:
            return None
        model = inner[0]
    return model


def _leaves(annotation: Any) -> list[Any]:
    """The plain types inside an annotation: of ``list[X] | None``, X and NoneType."""
    origin = typing.get_origin(annotation)
    if origin in (list, dict, typing.Union, types.UnionType):
        return [leaf for inner in typing.get_args(annotation) for leaf in _leaves(inner)]
    return [annotation]

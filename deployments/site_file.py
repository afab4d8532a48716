"""Site files: one YAML file a machine, checked and turned into ``engine.config.SiteConfig``.

    config = site_file.load(site_file.find("workset"))

Every problem is told in words: the setting's path, its line, what was found and what is allowed. A
value that is a secret, or that came from the environment, is never quoted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from deployments import yaml_lines
from deployments.environment import Filled, fill, read_dotenv
from deployments.site_shape import Problem, normalise, problems
from deployments.yaml_lines import Document, Path_, dotted
from engine.errors import ConfigError, UnknownName, nearest

if TYPE_CHECKING:
    from engine.config import SiteConfig

SHIPPED = Path(__file__).parent / "sites"
DEFAULT_FROM = "BACKUPS_SITE"
_HELP = "every setting is explained in docs/site-file.md"


def load(path: Path | str, env: Mapping[str, str] | None = None, dotenv: Path | None = None) -> SiteConfig:
    """Read a site file.

    Args:
        path: The YAML file.
        env: Where ``${NAME}`` comes from; this process's environment when None.
        dotenv: A file of ``NAME=value`` lines. When None, ``.env`` beside the site file and in the
            current directory are read where they are. The environment wins over both.

    Raises:
        ConfigError: Anything that is wrong, all at once: every unset name with where it is used, and every
            wrong setting with its line. (Only a ``${...}`` that cannot be read is told alone, before these.)
    """
    path = Path(path)
    if not path.exists():
        raise _missing(path)
    document = yaml_lines.read(path)
    if not isinstance(document.data, dict):
        found = "is empty" if document.data is None else "is not a mapping of settings"
        raise ConfigError(f"{path} {found}.", remedy=f"begin it with 'site: NAME'; {_HELP}")
    return validated(document, path, environment(path, os.environ if env is None else env, dotenv))


def validated(document: Document, path: Path, values: Mapping[str, str]) -> SiteConfig:
    """The site of a document that was read, with these values for its names; ``path`` names it in messages.

    Raises:
        ConfigError: As ``load``.
    """
    filled = fill(document.data, values)
    _refuse_odd(path, document, filled)
    config, told = _validated(filled)
    unset = _unset(path, document, filled, values)
    told = [each for each in told if not (unset and _may_come_of_it(each[0], filled))]
    if unset is not None:
        wrong = f"\nBesides, {_wrong(path, document, told)}" if told else ""
        raise ConfigError(unset.message + wrong, remedy=unset.remedy + (f"; {_HELP}" if told else ""))
    if told or config is None:
        raise ConfigError(_wrong(path, document, told), remedy=_HELP)
    return config


def environment(path: Path, env: Mapping[str, str], dotenv: Path | None = None) -> dict[str, str]:
    """The names a site file may use: the environment over ``.env`` files. Raises ConfigError."""
    if dotenv is not None:
        return {**read_dotenv(dotenv), **env}
    values: dict[str, str] = {}
    for folder in (Path.cwd(), path.resolve().parent):  # the one beside the site file wins
        if (folder / ".env").is_file():
            values.update(read_dotenv(folder / ".env"))
    return {**values, **env}


def find(given: str | Path | None = None, env: Mapping[str, str] | None = None) -> Path:
    """The site file that is meant: a path, a site's name, ``$BACKUPS_SITE``, or the only one there is.

    Raises:
        UnknownName: There is no such file; says which there are.
        ConfigError: None was named and there is not exactly one.
    """
    wanted = str(given or (os.environ if env is None else env).get(DEFAULT_FROM, ""))
    folders = [Path.cwd(), Path.cwd() / "deployments" / "sites", SHIPPED]
    if wanted:
        named = [Path(wanted), *(folder / f"{wanted}.yaml" for folder in folders)]
        for candidate in named:
            if candidate.is_file():
                return candidate
        raise _missing(Path(wanted))
    own = [file for file in sorted(Path.cwd().glob("*.yaml")) if _is_site(file)]
    if len(own) == 1:
        return own[0]
    there = own or sorted(SHIPPED.glob("*.yaml"))
    raise ConfigError(
        "Which site? No site file was named" + (f", and there are {len(own)} in this directory." if own else "."),
        remedy=f"add -f SITE.yaml, or export {DEFAULT_FROM}=SITE.yaml; there are: {', '.join(map(str, there))}",
    )


def warnings(config: SiteConfig) -> list[str]:
    """What is allowed but unwise, for a person: short keys, with how to make a better one."""
    from engine.config import check_key

    found = (check_key(key_id, key.get_secret_value()) for key_id, key in config.vault.keys.keys.items())
    return [warning for warning in found if warning]


def untold(config: SiteConfig) -> str:
    """That nobody hears of failures, where the site has no address for alerts; else empty."""
    if config.alerts:
        return ""
    return (
        "nobody is told of failures: the site has no address under alerts, or the names of their addresses are not "
        "set; see docs/watch.md#alerts"
    )


def _validated(filled: Filled) -> tuple[SiteConfig | None, list[Problem]]:
    """The site, or what is wrong with it. (Not raised here: pydantic's error holds the values, and must
    not be chained to ours.)"""
    from pydantic import ValidationError

    from engine.config import SiteConfig

    shaped = normalise(filled.data, filled.from_environment)
    try:
        return SiteConfig.model_validate(shaped.data), shaped.problems
    except ValidationError as error:
        return None, shaped.problems + problems(error, shaped, filled.from_environment)


def _wrong(path: Path, document: Document, told: list[Problem]) -> str:
    """Every wrong setting with its line, in the order of the file."""
    lines = sorted(
        {(document.line(at) or 0, f"{path.name}, line {document.line(at) or 1}: {what}") for at, what in told}
    )
    count = "" if len(lines) == 1 else f"{path} has {len(lines)} wrong settings:\n  "
    return count + "\n  ".join(text for _, text in lines)


def _may_come_of_it(at: Path_, filled: Filled) -> bool:
    """May this finding come only of a name that is unset: at, around or inside of a value that uses it?

    The key ring counts as one value, since which keys there are decides what ``current`` may say.
    """
    uses = (use[:2] if use[:2] == ("vault", "keys") else use for places in filled.unset.values() for use in places)
    return any(at[: len(use)] == use[: len(at)] for use in uses)


def _refuse_odd(path: Path, document: Document, filled: Filled) -> None:
    if filled.odd:
        places = ", ".join(_place(document, at) for at in filled.odd)
        raise ConfigError(
            f"{path} has a ${{...}} that cannot be read, at {places}.",
            remedy="write ${NAME} or ${NAME:-default}; $${ stands for the text ${ itself",
        )


def _unset(path: Path, document: Document, filled: Filled, values: Mapping[str, str]) -> ConfigError | None:
    """The names that have no value, as an error that is not raised yet."""
    if not filled.unset:
        return None
    lines = []
    for name in sorted(filled.unset):
        places = ", ".join(_place(document, at) for at in filled.unset[name])
        lines.append(f"  {name}{' (set, but empty)' if name in values else ''}: used by {places}")
    one = len(lines) == 1
    return ConfigError(
        f"{path} uses {'a name that is' if one else f'{len(lines)} names that are'} not set:\n" + "\n".join(lines),
        remedy=f"export {'it' if one else 'them'}, or write {'it' if one else 'them'} as NAME=value into "
        f"{path.parent / '.env'} (chmod 600); ${{NAME:-}} allows an empty one",
    )


def _place(document: Document, at: Path_) -> str:
    return f"{dotted(at)} (line {document.line(at)})"


def _is_site(path: Path) -> bool:
    try:
        return bool(re.search(r"^site\s*:", path.read_text(encoding="utf-8"), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        return False


def _missing(path: Path) -> UnknownName:
    folder = path.parent if path.parent.is_dir() else Path.cwd()
    beside = [file.name for file in folder.glob("*.yaml") if _is_site(file)]
    shipped = [file.stem for file in SHIPPED.glob("*.yaml")]
    return UnknownName(f"There is no site file {path}.", remedy=nearest(path.name, beside + shipped))

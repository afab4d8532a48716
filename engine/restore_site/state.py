"""What a restore of a machine has done so far, in one file: run again after a failure, it goes on from there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine import names
from engine.config import SiteConfig
from engine.errors import ConfigError
from engine.stores.local_errors import speaking_of
from engine.vault import Vault
from engine.whole import replace_file

FILE = "restore-site.json"
_FINISHED = "restore-site-{}.json"


@dataclass
class Done:
    """What a step came to.

    Attributes:
        said: In a sentence.
        counts: How much came back: ``{"rows": 2100, "tables": 3}``.
        notes: For a person who looks closer; ``left``: what a person has to do.
    """

    said: str
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class State:
    """The file, and what it says. No secrets stand in it."""

    def __init__(self, path: Path, body: dict[str, Any]) -> None:
        self.path = path
        self.body = body

    @classmethod
    def open(cls, directory: Path) -> State | None:
        """The restore that was begun and is not finished, if there is one. Raises ConfigError where it is damaged."""
        path = directory / FILE
        try:
            body = json.loads(path.read_bytes())
            if not isinstance(body, dict) or not {"point", "request", "steps", "begun_at"} <= set(body):
                raise ValueError
            return cls(path, body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise ConfigError(
                f"{path}, which says how far an earlier restore came, cannot be read.",
                kept="nothing was changed",
                remedy="begin anew, which restores everything again: --anew",
            ) from None

    @classmethod
    def begin(cls, directory: Path, *, site: str, point: str, request: dict[str, Any]) -> State:
        """A new one, written down."""
        at = names.iso(names.now())
        state = cls(
            directory / FILE,
            {"site": site, "point": point, "request": request, "begun_at": at, "steps": {}, "made": []},
        )
        state._write(state.path)
        return state

    @property
    def point(self) -> str:
        return str(self.body["point"])

    def begun(self, key: str) -> dict[str, Any] | None:
        """The facts that a step was begun with; None when it never was."""
        step = self.body["steps"].get(key)
        return dict(step.get("facts", {})) if step else None

    def done(self, key: str) -> Done | None:
        """What a step came to; None when it is not done."""
        step = self.body["steps"].get(key)
        return Done(**step["done"]) if step and step.get("done") else None

    def record(self, key: str, **facts: Any) -> None:
        """A step is about to be done."""
        before = self.body["steps"].get(key, {})
        self.body["steps"][key] = {"at": names.iso(names.now()), "facts": {**before.get("facts", {}), **facts}}
        self._write(self.path)

    def finish(self, key: str, done: Done) -> None:
        """A step is done."""
        self.body["steps"][key] |= {"done": asdict(done), "done_at": names.iso(names.now())}
        self._write(self.path)

    def made(self, *what: str) -> None:
        """Things that were made here and so are ours, such as ``container web-1``."""
        self.body["made"] = sorted({*self.body["made"], *what})
        self._write(self.path)

    def is_ours(self, what: str) -> bool:
        return what in self.body["made"]

    def close(self) -> Path:
        """All is done: kept under another name, so that the next restore begins anew."""
        self.body["finished_at"] = names.iso(names.now())
        path = self.path.with_name(_FINISHED.format(f"{names.now():{names.STAMP}}"))
        self._write(path)
        self.path.unlink(missing_ok=True)
        return path

    def discard(self) -> None:
        """Forget how far it came."""
        self.path.unlink(missing_ok=True)

    def _write(self, path: Path) -> None:
        """Whole or not at all, and durable."""
        with speaking_of("write to", path, path.parent):
            replace_file(path, json.dumps(self.body, indent=1))


def unfinished(config: SiteConfig) -> str:
    """The recovery point of the restore of a site that was begun here and is not finished; empty where there is none.

    Raises:
        ConfigError: What it left is damaged.
    """
    state = State.open(Vault(config).state)
    return state.point if state is not None else ""

"""An n8n as a source of backups."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from engine.config import N8nConfig
from engine.errors import WrongKey
from engine.journal import Journal
from engine.manifest import Server
from engine.n8n.instance import Instance
from engine.n8n.parts import CREDENTIALS, DUMP_FORMAT, EXTENSION, KEY, TAGS, Item, prove_key, version_of
from engine.progress import Progress
from engine.source import Facts, Parts, Preflight


class N8nSource:
    """One n8n: everything in one backup.

    Args:
        site: Names the compose project where the config does not.
    """

    kind = "n8n"

    def __init__(self, config: N8nConfig, *, site: str) -> None:
        self.name = config.name
        self.instance = Instance(config, site)
        self._config = config

    def databases(self) -> list[str]:
        """One backup, called like the source."""
        return self._config.databases

    def extension(self) -> str:
        return EXTENSION

    def preflight(self, database: str) -> Preflight:
        """The API answers with what the key may see, the command is there, the key is known.

        Raises:
            CredentialsRefused, MissingGrant, Unreachable, ToolMissing, ConfigError.
        """
        next(self.instance.pages("/workflows", "workflow:list"), None)
        next(self.instance.pages("/tags", "tag:list"), None)
        self.instance.key()
        return Preflight(_server(""), 0)

    def capture(self, database: str, parts: Parts, progress: Progress) -> Facts:
        """Export, ask the API, hold the one against the other, and open every credential with n8n's own key.

        Raises:
            WrongKey: The key that was found is not that of the credentials: such a backup could not be used.
        """
        instance = self.instance
        version = instance.version()
        progress("export n8n", 0, 4)
        workflows = instance.export("workflow")
        progress("export n8n", 1, 4)
        credentials = instance.export("credentials")
        progress("export n8n", 2, 4)
        seen = {str(each["id"]): each for each in instance.pages("/workflows", "workflow:list")}
        tags = list(instance.pages("/tags", "tag:list"))
        progress("export n8n", 3, 4)
        key = instance.key()
        try:
            prove_key(credentials, key)
        except WrongKey as error:
            raise WrongKey(
                f"What is known as the encryption key of {self.name} is not it. {error.message}",
                kept="nothing was published",
                remedy=f"correct encryption_key of {self.name}, or the N8N_ENCRYPTION_KEY that its command sees",
            ) from None
        _put(parts.companion(CREDENTIALS, EXTENSION), credentials)
        _put(parts.companion(TAGS, EXTENSION), tags)
        parts.companion(KEY, "txt").write(key.encode())
        _put(parts.data(), workflows)
        active = sorted(str(each["id"]) for each in workflows if each.get("active"))
        return Facts(
            server=_server(version),
            dump_format=DUMP_FORMAT,
            contents={
                "url": instance.where(),
                "version": version,
                "workflows": len(workflows),
                "credentials": len(credentials),
                "credential_types": sorted({str(each.get("type")) for each in credentials}),
                "tags": len(tags),
                "active": active,
            },
            incomplete=_differences(workflows, seen),
        )

    def recover(self, journal: Journal) -> list[str]:
        """Make active again what a restore had overwritten, or was about to, when it died: what it was to make active
        itself, and what is still as it was. Each import is one transaction of n8n's, so that nothing else is ever half
        done.

        Raises:
            CredentialsRefused, MissingGrant, Unreachable: asking n8n; the journal stays.
        """
        halted, activate = journal.facts.get("halted") or {}, journal.facts.get("activate")
        wanted = activate if isinstance(activate, list) else []  # earlier releases did not say which
        done = []
        for each in self.instance.pages("/workflows", "workflow:list") if halted else []:
            identity = str(each["id"])
            if identity not in halted or each.get("active"):
                continue
            # one that is neither came in as it was to come: inactive
            if identity in wanted or version_of(each) == halted[identity]:
                self.instance.activate(identity)
                done.append(f"made workflow {each.get('name')!r} of {self.name} active again")
        journal.close()
        return done

    def lock(self, database: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def close(self) -> None:
        pass


def _put(sink: Any, items: list[Item]) -> None:
    sink.write(json.dumps(items, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _differences(exported: list[Item], seen: dict[str, Item]) -> list[str]:
    """What the API shows and the export lacks, or is active in the one only."""
    known = {str(each["id"]): each for each in exported}
    missing = [
        f"workflow {each.get('name')!r} ({id_}) is not in the export" for id_, each in seen.items() if id_ not in known
    ]
    moved = [
        f"workflow {each.get('name')!r} ({id_}) was {'' if each.get('active') else 'de'}activated meanwhile"
        for id_, each in seen.items()
        if id_ in known and bool(each.get("active")) != bool(known[id_].get("active"))
    ]
    return [*missing, *moved]


def _server(version: str) -> Server:
    return Server(flavour="n8n", version=version, uuid="")


__all__ = ["N8nSource"]

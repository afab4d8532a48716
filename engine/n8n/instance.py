"""One n8n: asked through its public API, exported from and imported into by its own command where it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

from engine.addresses import bare
from engine.config import N8nConfig
from engine.errors import (
    BackupError,
    ConfigError,
    CredentialsRefused,
    MissingGrant,
    ToolFailed,
    ToolMissing,
    Unreachable,
)
from engine.n8n.parts import Item
from engine.processes.base import Command, Runner
from engine.processes.container import ContainerRunner
from engine.processes.local import LocalRunner
from engine.processes.place import docker_client, find_container

PAGE = 100
_SECONDS = 60.0
_LIMIT = 512 * 1024 * 1024
_EXPORT = """d=$(mktemp -d) || exit 1; what=$1; shift
"$0" "export:$what" "$@" --output="$d/x" >&2; s=$?
[ $s = 0 ] && cat "$d/x"
rm -rf "$d"; exit $s"""
_IMPORT = 'd=$(mktemp -d) || exit 1; cat >"$d/x"; "$0" "import:$1" --input="$d/x" >&2; s=$?; rm -rf "$d"; exit $s'
# The second command is that of releases before 2.0, which do not know the first.
_PUBLISH = '"$0" publish:workflow --id="$1" >&2 || exec "$0" update:workflow --id="$1" --active=true >&2'
# n8n takes the variable, else the file that a variable names, else what it has written down for itself.
_KEY = """if [ -n "$N8N_ENCRYPTION_KEY" ]; then printf %s "$N8N_ENCRYPTION_KEY"
elif [ -n "$N8N_ENCRYPTION_KEY_FILE" ]; then cat "$N8N_ENCRYPTION_KEY_FILE"
else cat "${N8N_USER_FOLDER:-$HOME}/.n8n/config"; fi"""
_NONE = re.compile(r"No (credentials|workflows) found", re.IGNORECASE)


class Instance:
    """An n8n. Not thread safe.

    Args:
        site: Names the compose project where the config does not.
    """

    def __init__(self, config: N8nConfig, site: str) -> None:
        self.config = config
        self._site = site
        self._runner: Runner | None = None

    def where(self) -> str:
        """For people."""
        return bare(self.config.url)

    # The API

    def pages(self, path: str, scope: str) -> Iterator[Item]:
        """Everything of a list, page by page.

        Raises:
            CredentialsRefused, MissingGrant, Unreachable: in words.
        """
        cursor = ""
        while True:
            answer = self._ask("GET", path, scope, params={"limit": PAGE, **({"cursor": cursor} if cursor else {})})
            yield from answer.get("data") or []
            following = answer.get("nextCursor") or ""
            if not following:
                return
            if following == cursor:
                raise ToolFailed(f"{self.where()} goes round in circles listing {path}.")
            cursor = following

    def activate(self, workflow: str) -> None:
        """Make a workflow active. Raises MissingGrant, ToolFailed: it has no trigger, or a credential is missing."""
        self._ask("POST", f"/workflows/{workflow}/activate", "workflow:activate")

    def make_tag(self, name: str) -> None:
        """Make a tag. Raises MissingGrant, ToolFailed."""
        self._ask("POST", "/tags", "tag:create", json={"name": name})

    def _ask(self, method: str, path: str, scope: str, **options: Any) -> Any:
        if self.config.api_key is None:
            raise ConfigError(
                f"{self.config.name} has no API key.",
                remedy="make one in n8n under Settings, n8n API, and set api_key of this source",
            )
        url = f"{self.config.url.rstrip('/')}/api/v1{path}"
        headers = {"X-N8N-API-KEY": self.config.api_key.get_secret_value()}
        try:
            answer = httpx.request(
                method, url, headers=headers, timeout=_SECONDS, verify=self.config.verify_tls, **options
            )
        except httpx.HTTPError as error:
            raise Unreachable(
                f"n8n does not answer at {self.where()} ({type(error).__name__}).",
                kept="nothing was changed",
                remedy=f"is it running? correct url of {self.config.name}",
            ) from None
        if answer.status_code < 300:
            return self._read(answer)
        raise self._refused(answer, path, scope)

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json() if answer.content else {}
        except ValueError:
            raise ToolFailed(
                f"What answers at {self.where()} is not n8n's API: no JSON.",
                kept="nothing was changed",
                remedy=f"correct url of {self.config.name}: without the path of a page",
            ) from None

    def _refused(self, answer: httpx.Response, path: str, scope: str) -> BackupError:
        name = self.config.name
        if answer.status_code == 401:
            return CredentialsRefused(
                f"n8n at {self.where()} does not know the API key of {name}.",
                remedy=f"make one in n8n under Settings, n8n API, and correct api_key of {name}",
            )
        if answer.status_code == 403:
            return MissingGrant(
                f"The API key of {name} may not do this: it lacks the scope {scope}.",
                kept="nothing was changed",
                remedy="give it the scopes workflow:list, workflow:read, tag:list, and to restore workflow:activate "
                "and tag:create, in n8n under Settings, n8n API",
            )
        if answer.status_code == 404:
            return ToolFailed(
                f"{self.where()} has no {path}.", remedy=f"correct url of {name}; is the public API switched off there?"
            )
        try:
            said = str(answer.json().get("message", ""))[:300]
        except (ValueError, AttributeError):
            said = ""
        return ToolFailed(f"n8n refused {path} ({answer.status_code}): {said}")

    # The command

    def version(self) -> str:
        """``2.41.1``."""
        text = self._runner_now().run(self._command('exec "$0" --version'), timeout=_SECONDS * 5).text
        found = re.search(r"\d+\.\d+\.\d+", text)
        if not found:
            raise ToolFailed(f"n8n on {self._runner_now().describe()} does not say its version.")
        return found[0]

    def export(self, what: str, only: str = "", *, opened: bool = False) -> list[Item]:
        """Everything of a kind (``workflow``, ``credentials``) with ids; credentials stay encrypted.

        Args:
            only: The one of that id.
            opened: Have n8n decrypt the credentials. Never to be shown, nor written anywhere that stays.
        """
        options = [f"--id={only}" if only else "--all", *(["--decrypted"] if opened else [])]
        command = self._command(_EXPORT, what, *options)
        try:
            with self._runner_now().start(command, timeout=self.config.timeout_seconds) as process:
                data = bytearray()
                for chunk in process.chunks():
                    data += chunk
                    if len(data) > _LIMIT:
                        raise ToolFailed(f"n8n exports more than {_LIMIT:,} bytes of {what}.")
                process.wait()
        except ToolFailed as error:
            if _NONE.search(error.message):
                return []
            raise
        try:
            found = json.loads(bytes(data))
        except ValueError:
            raise ToolFailed(f"What n8n exported as {what} is no JSON.") from None
        return [found] if isinstance(found, dict) else list(found)

    def bring_in(self, what: str, items: list[Item]) -> None:
        """Import things under their own ids, over what has these ids; workflows come in inactive."""
        runner = self._runner_now()
        with runner.start(self._command(_IMPORT, what, feeds=True), timeout=self.config.timeout_seconds) as process:
            process.write(json.dumps(items).encode())
            process.close_input()
            process.wait()

    def publish(self, workflow: str) -> None:
        """Have a workflow active from the next start of n8n on, by its command: no API key is needed. Whether it is
        shows in an export.

        Raises:
            ToolFailed: n8n refused it.
        """
        self._runner_now().run(self._command(_PUBLISH, workflow), timeout=self.config.timeout_seconds)

    def key(self) -> str:
        """The encryption key that this n8n uses.

        Raises:
            ConfigError: It cannot be found.
        """
        try:
            text = self._runner_now().run(self._command(_KEY)).text
        except ToolFailed:
            text = ""
        if text.startswith("{"):
            try:
                text = str(json.loads(text).get("encryptionKey") or "")
            except ValueError:
                text = ""
        if not text and self.config.encryption_key is not None:
            text = self.config.encryption_key.get_secret_value()
        if not text:
            raise ConfigError(
                f"The encryption key of {self.config.name} is not known.",
                remedy=f"set encryption_key of {self.config.name}, such as ${{N8N_ENCRYPTION_KEY}}",
            )
        return text

    def _command(self, script: str, *arguments: str, feeds: bool = False) -> Command:
        environment = dict(self.config.environment)
        if self.config.encryption_key is not None and not self.contained:
            environment.setdefault("N8N_ENCRYPTION_KEY", self.config.encryption_key.get_secret_value())
        program = self.config.command
        return Command(("sh", "-c", script, program, *arguments), env=environment, feeds=feeds, title="n8n")

    @property
    def contained(self) -> bool:
        """Does it run in a container that the site names?"""
        return bool(self.config.container or self.config.service)

    def _runner_now(self) -> Runner:
        if self._runner is None:
            self._runner = self._open()
        return self._runner

    def _open(self) -> Runner:
        config = self.config
        runner: Runner
        if self.contained:
            client = docker_client(config.docker_host)
            found = find_container(
                client, container=config.container, service=config.service, project=config.project or self._site
            )
            runner = ContainerRunner(client, found)
        else:
            runner = LocalRunner([])
        if "/" not in config.command and runner.find([config.command]) is None:
            raise ToolMissing(
                f"{config.command} is not on {runner.describe()}.",
                remedy=f"say where n8n runs: container or service of {config.name}; or its command on this host",
            )
        return runner

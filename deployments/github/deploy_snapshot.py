"""Takes a snapshot before a deployment from a CI job, or says how that deployment went; waits, and tells why not.

Speaks to the API of a Prefect server with nothing but the standard library, so that any runner with Python 3.8 can
use it. Everything it is told comes from the environment, never from a template:

    PREFECT_API_URL           such as https://prefect.example.net/api
    PREFECT_API_AUTH_STRING   user:password, where the server wants one
    BACKUPS_OPERATION         snapshot (default), release (it succeeded) or failed (it did not)
    BACKUPS_SITE              name of the site
    BACKUPS_RELEASE, BACKUPS_COMMIT, BACKUPS_ACTOR    what is deployed, and by whom
    BACKUPS_KEY               of the snapshot, within the workflow run; default: the job. A job that is run again
                              has the snapshot that it had; the next workflow run has one of its own
    BACKUPS_SNAPSHOT          for release and failed: which one; default: the key
    BACKUPS_TIMEOUT           seconds until a run that has not ended is cancelled (900)
    BACKUPS_PATIENCE          seconds for which the server may be away (60)
    BACKUPS_POLL              seconds between two looks (2)
    BACKUPS_UI_URL            where people look; default: the API's address without /api

Exit codes: 0 done; 2 a wrong input, or no such site; 3 the run failed; 4 timed out (cancelled); 5 the server is
unreachable; 6 the login was refused; 7 the run was cancelled by somebody else; 130, 143 this job was cancelled, and
the run with it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any, Mapping  # noqa: UP035 - as Python 3.8 has it

USAGE, FAILED, TIMED_OUT, UNREACHABLE, REFUSED, CANCELLED = 2, 3, 4, 5, 6, 7
FLOWS = {"snapshot": "pre-deploy-snapshot", "release": "release-snapshots", "failed": "release-snapshots"}
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
LONGEST = 200
PAGE = 200  # lines of a log at a time
ANSWER_SECONDS = 20


class Ended(Exception):
    """The job ends here, with a reason for people."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Away(Exception):
    """The server does not answer now; it may later."""


class Stopped(BaseException):
    """SIGINT or SIGTERM arrived: the job was cancelled."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the password to another address."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Inputs:
    """What the environment says, checked. Raises Ended."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        def text(name: str, default: str = "", cut: bool = False) -> str:
            value = environ.get(name) or default
            value = value[:LONGEST] if cut else value
            if not value.isprintable() or len(value) > LONGEST:
                raise Ended(USAGE, f"{name} must be one line of at most {LONGEST} characters.")
            return value

        def seconds(name: str, default: float) -> float:
            try:
                value = float(environ.get(name) or default)
            except ValueError:
                value = 0.0
            if not 0 < value < 86_400:
                raise Ended(USAGE, f"{name} must be a number of seconds.")
            return value

        self.api = (environ.get("PREFECT_API_URL") or "").strip().rstrip("/")
        if not re.match(r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", self.api):
            raise Ended(USAGE, "PREFECT_API_URL must be the address of a Prefect API, such as https://host/api")
        self.auth = (environ.get("PREFECT_API_AUTH_STRING") or "").strip()
        self.ui = text("BACKUPS_UI_URL").rstrip("/") or re.sub(r"/api$", "", self.api)
        self.operation = text("BACKUPS_OPERATION", "snapshot")
        if self.operation not in FLOWS:
            raise Ended(USAGE, f"The operation must be one of {', '.join(FLOWS)}.")
        self.site = text("BACKUPS_SITE")
        if not re.match(r"^[a-z0-9][a-z0-9-]*$", self.site):
            raise Ended(USAGE, "The site must be the name of one: small letters, digits and dashes.")
        self.release = text("BACKUPS_RELEASE", cut=True)  # may be the name of a branch
        self.commit = text("BACKUPS_COMMIT", environ.get("GITHUB_SHA", ""))
        self.actor = text("BACKUPS_ACTOR", environ.get("GITHUB_TRIGGERING_ACTOR") or environ.get("GITHUB_ACTOR", ""))
        self.key = key_of(environ, text("BACKUPS_KEY"))
        self.snapshot = text("BACKUPS_SNAPSHOT", self.key)
        if self.operation != "snapshot" and not self.snapshot:
            raise Ended(USAGE, "Which snapshot? Give the output `snapshot` of the step or job that took it.")
        self.timeout = seconds("BACKUPS_TIMEOUT", 900)
        self.patience = seconds("BACKUPS_PATIENCE", 60)
        self.poll = seconds("BACKUPS_POLL", 2)
        # The same attempt asked twice is one run; another attempt of the job is a new run of the same key.
        run = environ.get("GITHUB_RUN_ID")
        attempt = f"{run}/{environ.get('GITHUB_RUN_ATTEMPT', '1')}" if run else uuid.uuid4().hex
        self.request = f"{self.site}/{self.operation}/{self.snapshot}/{attempt}"

    @property
    def deployment(self) -> str:
        return f"{FLOWS[self.operation]}/{self.site}"

    @property
    def parameters(self) -> dict[str, Any]:
        if self.operation == "snapshot":
            return {"release": self.release, "commit": self.commit, "actor": self.actor, "key": self.key}
        return {"snapshot": self.snapshot, "failed": self.operation == "failed"}


def key_of(environ: Mapping[str, str], given: str) -> str:
    """Repository, run, and what was given or the job; the same when the job is run again. A key that is given alike in
    every workflow run names one snapshot in each. Outside of CI what was given."""
    if not environ.get("GITHUB_RUN_ID"):
        return given
    run = [environ.get(name, "") for name in ("GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    key = "/".join([*run, given or environ.get("GITHUB_JOB", "")])
    return key if len(key) <= LONGEST else hashlib.sha256(key.encode()).hexdigest()


class Server:
    """A Prefect server's API."""

    def __init__(self, api: str, auth: str) -> None:
        self._api = api
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if auth:
            self._headers["Authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        self._opener = urllib.request.build_opener(NoRedirects)

    def call(self, method: str, path: str, body: Any = None, timeout: float = ANSWER_SECONDS) -> Any:
        """One request. Raises Away for what may pass, Ended for what will not."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._api + path, data=data, headers=self._headers, method=method)
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise self._refusal(error, method, path) from None
        except (http.client.HTTPException, OSError) as error:
            raise Away(str(getattr(error, "reason", error)) or type(error).__name__) from None
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise Ended(UNREACHABLE, f"What answers at {self._api} is no Prefect server: no JSON.") from None

    def _refusal(self, error: urllib.error.HTTPError, method: str, path: str) -> Exception:
        if error.code in (401, 403):
            return Ended(REFUSED, "The Prefect server refused the login (PREFECT_API_AUTH_STRING).")
        if error.code in (429, 500, 502, 503, 504):
            return Away(f"it answered {error.code}")
        if 300 <= error.code < 400:
            return Ended(USAGE, "The Prefect server redirects elsewhere; give its final address as PREFECT_API_URL.")
        words = error.read(2000).decode(errors="replace")
        if error.code == 404:
            return Ended(USAGE, f"The Prefect server has no {path.split('/name/')[-1].lstrip('/')}: {words}")
        return Ended(USAGE, f"The Prefect server answered {error.code} to {method} {path}: {words}")

    def patiently(self, seconds: float, method: str, path: str, *body: Any) -> dict[str, Any]:
        """A request for one document that is made again while the server is away. Raises Ended when it stays away, or
        answers with something else."""
        deadline = time.monotonic() + seconds
        pause = 0.5
        while True:
            try:
                answer = self.call(method, path, *body)
                if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
                    told = f"What answers at {self._api} is no Prefect server: an odd answer to {method} {path}."
                    raise Ended(UNREACHABLE, told)
                return answer
            except Away as error:
                if time.monotonic() + pause > deadline:
                    raise Ended(UNREACHABLE, f"The Prefect server does not answer: {error}") from None
            time.sleep(pause)
            pause = min(pause * 2, 10.0)


class Console:
    """The job's log, summary and outputs. What comes from elsewhere can neither command the runner nor draw."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def say(self, text: str) -> None:
        for line in plain(text).splitlines():
            print(f"| {line}", flush=True)

    def error(self, title: str, text: str) -> None:
        body = plain(text).replace("%", "%25").replace("\n", "%0A")
        if self._environ.get("GITHUB_ACTIONS"):
            print(f"::error title={title}::{body}", flush=True)
        else:
            print(f"{title}: {plain(text)}", file=sys.stderr, flush=True)

    def summary(self, title: str, rows: list[tuple[str, str]], text: str = "") -> None:
        lines = [f"### {cell(title)}", "", "| | |", "|---|---|", *(f"| {one} | {two} |" for one, two in rows)]
        if text:
            lines += ["", *("    " + line for line in plain(text).splitlines())]
        self._append("GITHUB_STEP_SUMMARY", "\n".join([*lines, "", ""]))

    def output(self, name: str, value: str) -> None:
        self._append("GITHUB_OUTPUT", f"{name}={value}\n")

    def _append(self, name: str, text: str) -> None:
        path = self._environ.get(name)
        if path:
            with open(path, "a", encoding="utf-8") as file:
                file.write(text)


def plain(text: str) -> str:
    """Text without control characters but line ends, and without the runner's old kind of command."""
    kept = "".join(each if each == "\n" or each.isprintable() else " " for each in text.replace("\r\n", "\n"))
    return kept.replace("##[", "## [")


def cell(text: str) -> str:
    """Text for a cell of a table in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|!&#@])", r"\\\1", " ".join(plain(text).split()))


class Job:
    """One request, from its beginning to the end of its run."""

    def __init__(self, inputs: Inputs, server: Server, console: Console) -> None:
        self.inputs = inputs
        self.server = server
        self.console = console
        self.run = ""
        self._told = 0
        self._state = ""

    @property
    def link(self) -> str:
        return f"{self.inputs.ui}/runs/flow-run/{self.run}" if self.run else self.inputs.ui

    def start(self) -> None:
        """Ask for the run; asked again after a lost answer, it is the same one."""
        inputs = self.inputs
        found = self.server.patiently(inputs.patience, "GET", f"/deployments/name/{inputs.deployment}")
        body = {
            "parameters": {**(found.get("parameters") or {}), **inputs.parameters},
            "idempotency_key": inputs.request,
            "enforce_parameter_schema": True,
            "tags": ["ci"],
        }
        made = self.server.patiently(inputs.patience, "POST", f"/deployments/{found['id']}/create_flow_run", body)
        self.run = made["id"]
        self.console.say(f"{inputs.deployment}: {self.link}")

    def wait(self) -> dict[str, Any]:
        """Until it has ended; its state. Raises Ended when that takes too long."""
        deadline = time.monotonic() + self.inputs.timeout
        while True:
            state = self._look().get("state")
            state = state if isinstance(state, dict) else {}
            if state.get("name") != self._state:
                self._state = str(state.get("name"))
                self.console.say(f"state: {self._state}")
            self._tell_log()
            if state.get("type") in FINAL:
                return state
            if time.monotonic() > deadline:
                raise Ended(TIMED_OUT, self._too_long(self.cancel()))
            time.sleep(self.inputs.poll)

    def _look(self) -> dict[str, Any]:
        """The run as it is now. Raises Ended; never as wrong input, for it was begun."""
        try:
            return self.server.patiently(self.inputs.patience, "GET", f"/flow_runs/{self.run}")
        except Ended as end:
            if end.code != USAGE:
                raise
            raise Ended(FAILED, f"The run was begun, and nobody can say how it went: {end.reason}") from None

    def _too_long(self, cancelled: bool) -> str:
        why = " Is a worker running?" if self._state in ("Scheduled", "Late", "Pending") else ""
        what = "was cancelled" if cancelled else "could not be cancelled: it may still go on"
        return f"It was still {self._state} after {self.inputs.timeout:.0f} s, and {what}.{why}"

    def _tell_log(self) -> None:
        """What the run has said since the last look. A log that cannot be read now is read later; none decides how the
        job ends."""
        body = {"logs": {"flow_run_id": {"any_": [self.run]}}, "sort": "TIMESTAMP_ASC", "limit": PAGE}
        lines: Any = [None] * PAGE
        while len(lines) == PAGE:
            try:
                lines = self.server.call("POST", "/logs/filter", {**body, "offset": self._told})
            except (Away, Ended):
                return
            if not isinstance(lines, list):
                return
            self._told += len(lines)
            for line in (each for each in lines if isinstance(each, dict)):
                self.console.say(f"{str(line.get('timestamp', ''))[11:19]} {line.get('message', '')}")

    def cancel(self) -> bool:
        """Stop the run, also one whose answer never arrived; was it taken? Best effort, in a few seconds."""
        try:
            if not self.run:
                asked = {"flow_runs": {"idempotency_key": {"any_": [self.inputs.request]}}}
                found = self.server.call("POST", "/flow_runs/filter", asked, 3)
                self.run = str(found[0]["id"]) if found else ""
            if self.run:
                state = {"state": {"type": "CANCELLING", "message": "The job that asked for it ended."}}
                answer = self.server.call("POST", f"/flow_runs/{self.run}/set_state", state, 3)
                taken = answer["status"] == "ACCEPT"
                self.console.say("the run is being cancelled" if taken else "the server does not cancel the run")
                return bool(taken)
        except (Away, Ended) as error:
            self.console.say(f"the run could not be cancelled: {error}")
        except (LookupError, TypeError):
            self.console.say("the run could not be cancelled: the server's answer was odd")
        return False


def work(job: Job) -> str:
    """Start, wait, tell. Raises Ended unless all went well."""
    job.start()
    state = job.wait()
    message = state.get("message") or ""
    if state["type"] == "COMPLETED":
        return str(message)
    if state["type"] == "CANCELLED":
        raise Ended(CANCELLED, f"The run was cancelled. {message}")
    raise Ended(FAILED, message or f"The run ended as {state.get('name')}, without a word.")


def stop(number: int, frame: Any) -> None:
    """Raised where the program is; what follows must be quick, so a second signal changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped(number)


def main(environ: Mapping[str, str]) -> int:
    """Do what the environment asks; the exit code."""
    console = Console(environ)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    try:
        inputs = Inputs(environ)
    except Ended as end:
        console.error("Pre-deploy snapshot", end.reason)
        return end.code
    job = Job(inputs, Server(inputs.api, inputs.auth), console)
    title = f"{inputs.operation} of {inputs.site}" + (f" for {inputs.release}" if inputs.release else "")
    code, said = 0, ""
    try:
        said = work(job)
        console.say(said)
    except Ended as end:
        code, said = end.code, end.reason
        console.error(f"Pre-deploy {inputs.operation}", f"{said}\nSee {job.link}")
    except Stopped as stopped:
        how = (
            "and the run with it"
            if job.cancel()
            else "and its run may still go on"
            if job.run
            else "before its run began"
        )
        code, said = 128 + stopped.args[0], f"This job was cancelled, {how}."
        console.error(f"Pre-deploy {inputs.operation}", said)
    console.output("run-url", job.link)
    if code == 0:
        console.output("snapshot", inputs.snapshot)
    rows = [("Result", "done" if code == 0 else f"failed ({code})"), ("Run", f"[{job.run or 'none'}]({job.link})")]
    console.summary(f"Backups: {title}", rows, said)
    return code


if __name__ == "__main__":
    sys.exit(main(os.environ))

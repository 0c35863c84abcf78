"""The program ``git``, called so that neither a repository nor this machine's configuration has a say in what it does.

No hooks, no prompts, no templates, no configuration of the user's or the system's, and no protocol but HTTP, SSH and
git's own: what a repository names (submodules, redirects) cannot reach a file of this machine.
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dockermagic.build.request import BuildRequest
from dockermagic.errors import BuildError, BuildInterruptedError
from dockermagic.sandbox.base import Cancel

__all__ = ["Git", "GitError"]

PROTOCOLS = "http:https:git:ssh"
PASSED_ON = (
    *("PATH", "TMPDIR"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"),
)
SETTINGS = {
    "advice.detachedHead": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.symlinks": "true",
    "gc.auto": "0",
    "http.lowSpeedLimit": "16",
    "http.lowSpeedTime": "120",
    "init.defaultBranch": "master",
    "maintenance.auto": "false",
}


class GitError(BuildError):
    """git failed; ``output`` is the end of what it said."""

    def __init__(self, message: str, *, output: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output

    def details(self) -> list[str]:
        return [f"  | {line}" for line in self.output.splitlines()[-10:]]


class Git:
    """Calls git for one remote. ``known_hosts`` is where the keys of SSH servers are remembered at the first use."""

    def __init__(self, remote: str, request: BuildRequest, known_hosts: Path, cancel: Cancel | None = None) -> None:
        self.remote = remote
        self.cancel = cancel
        self._environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._environment |= {
            "GIT_ASKPASS": "true",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_SSH_COMMAND": _ssh(request, known_hosts),
            "GIT_TERMINAL_PROMPT": "0",
            "HOME": os.devnull,
            "LC_ALL": "C.UTF-8",
            "SSH_ASKPASS": "true",
        }
        agent = request.ssh.get("default", "")
        if _is_socket(agent):
            self._environment["SSH_AUTH_SOCK"] = agent
        if request.ca is not None:
            self._environment["GIT_SSL_CAINFO"] = str(request.ca)
        # Through the environment, so that no list of processes shows a password or token.
        self._settings = dict(SETTINGS) | {"remote.origin.url": remote} | _authorization(remote, request)

    def __call__(
        self,
        *words: str,
        directory: Path | None = None,
        local: bool = False,
        at: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> str:
        """What the command prints. ``directory`` is the repository, else that of the working directory ``at``.

        ``local`` allows a repository of this machine, for the copy that was fetched before. Raises :class:`GitError`
        with what git said, and BuildInterruptedError.
        """
        environment = dict(self._environment)
        environment["GIT_ALLOW_PROTOCOL"] = "file" if local else PROTOCOLS
        if directory is not None:
            environment["GIT_DIR"] = str(directory)
        chosen = self._settings | dict(settings or {})
        environment["GIT_CONFIG_COUNT"] = str(len(chosen))
        for number, (name, value) in enumerate(chosen.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = name
            environment[f"GIT_CONFIG_VALUE_{number}"] = value
        return self._run(["git", *words], environment, at or directory or Path("/"))

    def _run(self, command: Sequence[str], environment: Mapping[str, str], place: Path) -> str:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=place,
                umask=0o022,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise BuildError("git is not installed", hint="Install git, or copy from a directory instead.") from None

        def stop() -> None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass

        leave = self.cancel.subscribe(stop) if self.cancel is not None else None
        try:
            out, err = process.communicate()
        except BaseException:
            stop()
            process.wait()
            raise
        finally:
            if leave is not None:
                leave()
        if self.cancel is not None and self.cancel.is_set():
            raise BuildInterruptedError("interrupted")
        if process.returncode:
            said = err.decode("utf-8", "replace").strip()
            raise GitError(
                f"git {command[1]} of {redacted(self.remote)} failed",
                output=said.replace(self.remote, redacted(self.remote)),
                hint=_advice(said, self.remote),
            )
        return out.decode("utf-8", "replace")


def redacted(remote: str) -> str:
    """The remote without a password."""
    parts = urlsplit(remote) if "://" in remote else None
    if parts is None or parts.password is None:
        return remote
    return parts._replace(netloc=f"{parts.username}:xxxxx@{parts.netloc.rpartition('@')[2]}").geturl()


def _advice(said: str, remote: str) -> str:
    text = said.lower()
    if "host key verification failed" in text:
        return "The server's key is not the one that was seen before, or could not be asked for."
    if "permission denied" in text and not remote.startswith("http"):
        return "The server wants a key: pass your agent with --ssh default, or --ssh default=KEYFILE."
    if any(word in text for word in ("authentication failed", "could not read username", "401", "403")):
        return "A private repository needs a token: --secret id=GIT_AUTH_TOKEN,env=NAME."
    if "could not resolve host" in text or "connection" in text:
        return "Check the address and the network connection."
    return "What git said stands above."


def _is_socket(path: str) -> bool:
    try:
        return bool(path) and stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _ssh(request: BuildRequest, known_hosts: Path) -> str:
    words = ["ssh", "-F", os.devnull, "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]
    words += ["-o", "StrictHostKeyChecking=accept-new", "-o", f'UserKnownHostsFile="{known_hosts}" ~/.ssh/known_hosts']
    for key in request.ssh.get("default", "").split(","):
        if key and not _is_socket(key):
            words += ["-o", "IdentitiesOnly=yes", "-i", key]
    return shlex.join(words)


def _authorization(remote: str, request: BuildRequest) -> dict[str, str]:
    """The secrets GIT_AUTH_HEADER and GIT_AUTH_TOKEN, those of the host first, for the remote's own server alone."""
    parts = urlsplit(remote) if remote.startswith(("http://", "https://")) else None
    if parts is None:
        return {}
    host = parts.netloc.rpartition("@")[2]
    for name in (f"GIT_AUTH_HEADER.{host}", f"GIT_AUTH_TOKEN.{host}", "GIT_AUTH_HEADER", "GIT_AUTH_TOKEN"):
        secret = request.secrets.get(name)
        if secret is not None:
            value = secret.read().decode().strip()
            if "TOKEN" in name:
                value = "basic " + base64.b64encode(f"x-access-token:{value}".encode()).decode()
            return {f"http.{parts.scheme}://{host}/.extraHeader": f"Authorization: {value}"}
    return {}

"""Control groups of version 2 where systemd keeps them: a transient scope of the user's systemd, for root the system's.

Only who may write above both may move a process from one subtree to another, and above a login's own group only root
may. systemd moves it for whom it belongs to. The scope goes with its last process, whoever was killed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = ["Scope", "attach"]

_BOOTED = Path("/run/systemd/system")


def _manager() -> list[str]:
    """The option that names the systemd to ask."""
    return ["--system"] if os.geteuid() == 0 else ["--user"]


def _environment() -> dict[str, str]:
    """What its programs need to find it; after ``su`` nothing names the directory, which is there all the same."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return {"PATH": os.environ.get("PATH", os.defpath), "XDG_RUNTIME_DIR": runtime, "LC_ALL": "C.UTF-8"}


class Scope:
    """A scope and the process that keeps it from its beginning to :meth:`close`, so that it can be read at the end.

    That process is one of the scope's own: a limit of processes has to count it.
    """

    def __init__(self, keeper: subprocess.Popen[bytes], group: str) -> None:
        self._keeper = keeper
        self.group = group

    @classmethod
    def make(cls, name: str, properties: dict[str, str]) -> Scope | None:
        """A new scope with these properties; None where no systemd makes one for this user."""
        if not _BOOTED.is_dir():
            return None
        import subprocess

        # What is delegated is not stopped as a whole when one of its processes runs out of memory.
        given = [word for key, value in {"Delegate": "yes", **properties}.items() for word in ("-p", f"{key}={value}")]
        command = ["systemd-run", *_manager(), "--scope", "--quiet", "--collect", f"--unit={name}.scope", *given, "cat"]
        try:
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            return None
        assert keeper.stdin is not None and keeper.stdout is not None
        scope = cls(keeper, "")
        with contextlib.suppress(OSError):
            keeper.stdin.write(b"\n")
            keeper.stdin.flush()
            if keeper.stdout.read(1):  # it is in its scope by the time that it answers
                lines = Path(f"/proc/{keeper.pid}/cgroup").read_text().splitlines()
                scope.group = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")
                return scope
        scope.close()
        return None

    def close(self) -> None:
        """Let go of it; it goes when all its processes have ended."""
        for stream in (self._keeper.stdin, self._keeper.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        self._keeper.wait()


def attach(group: str, pid: int) -> bool:
    """Have a process moved into a scope, given by its group; whether it was."""
    import subprocess

    manager = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
    call = ["AttachProcessesToUnit", "ssau", os.path.basename(group), "", "1", str(pid)]
    try:
        done = subprocess.run(
            ["busctl", *_manager(), "--quiet", "call", *manager, *call],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_environment(),
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0

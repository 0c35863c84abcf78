"""A Debian trixie chroot with Docker 26, buildx and buildah, made once and kept in a cache directory.

``python -m tests.peers.chroot`` makes it ahead of the tests. ``DOCKERMAGIC_PEERS`` names the cache directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from dockermagic.hostfacts import choose_sources, host_codename, read_apt_sources, render_deb822
from tests.peers import PeerUnavailable

SUITE = "trixie"
PACKAGES = "docker.io,docker-buildx,docker-cli,buildah,netavark,iptables,iproute2,xz-utils,ca-certificates"

# Everything is mounted in a mount namespace of its own: when its last process ends, nothing is left. It is entered by
# pivot_root: in what is below a chroot, the kernel refuses user namespaces. The host's tree is
# seen below /host, so that a path of the host is one of the chroot with that in front.
MOUNT = """
mkdir -p "$ROOT/host" "$ROOT/var/lib/docker"
mount --bind "$ROOT" "$ROOT"
mount --rbind / "$ROOT/host"
mount -t proc proc "$ROOT/proc"
mount --rbind /sys "$ROOT/sys"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount --bind "$DATA" "$ROOT/var/lib/docker"
cd "$ROOT"
mkdir -p old
pivot_root . old
umount -l /old
exec "$@"
"""


def cache() -> Path:
    return Path(os.environ.get("DOCKERMAGIC_PEERS") or "/var/tmp/dockermagic-peers")


def ensure() -> Path:
    """The chroot's directory; made if it is not there yet, in half a minute, from a Debian mirror."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise PeerUnavailable("Docker is started in a chroot, and only root can do that")
    root = cache() / f"{SUITE}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(root)
    return root


def _make(root: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise PeerUnavailable("no mmdebstrap to make Docker's chroot with: apt-get install mmdebstrap")
    sources, _ = choose_sources(SUITE, read_apt_sources(), host_codename())
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as directory:
        made = Path(directory) / SUITE
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={PACKAGES}"]
        done = subprocess.run(
            ["unshare", "-m", *command, SUITE, made, "-"], input=render_deb822(sources), capture_output=True, text=True
        )
        if done.returncode:
            raise PeerUnavailable(f"mmdebstrap could not make Docker's chroot: {done.stderr.strip()[-600:]}")
        made.rename(root)


class Chroot:
    """A command that runs in the chroot as pid 1 of its own pid namespace; all of it dies with this process."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None, ready_within: float = 60) -> None:
        """Start ``command``, which must tell ``NOTIFY_SOCKET`` when it is ready, as services do for systemd."""
        self.root = ensure()
        _sweep()
        self.data = Path(tempfile.mkdtemp(prefix="data-", dir=cache()))
        self._lock = (self.data / ".lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.data / "docker").mkdir()
        self.log = self.data / "log"
        name = f"\0dockermagic-{os.getpid()}-{self.data.name}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, self.log.open("wb") as log:
            ready.bind(name)
            ready.settimeout(0.5)
            self.process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
                    *("sh", "-euc", MOUNT, "sh", *command),
                ],
                env=self._environment() | {"NOTIFY_SOCKET": "@" + name[1:]} | (environment or {}),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            if not self._wait(ready, ready_within):
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
                self.stop()
                raise PeerUnavailable(f"{command[0]} did not start in its chroot:\n{tail}")

    def _wait(self, ready: socket.socket, seconds: float) -> bool:
        for _ in range(int(seconds / 0.5)):
            try:
                if b"READY=1" in ready.recv(4096):
                    return True
            except TimeoutError:
                if self.process.poll() is not None:
                    return False
        return False

    def _environment(self) -> dict[str, str]:
        return {
            "ROOT": str(self.root),
            "DATA": str(self.data / "docker"),
            "HOME": "/run",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }

    @property
    def pid(self) -> int:
        """The command's process id on the host."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def command(self, *arguments: str | Path) -> list[str]:
        """The command that runs ``arguments`` in the chroot's namespaces."""
        environment = [f"{name}={value}" for name, value in self._environment().items()]
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid"]
        return [*enter, "env", "-i", *environment, *map(str, arguments)]

    def run(self, *arguments: str | Path, check: bool = True, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the chroot to its end; with ``check``, a failing one raises with its output."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, input=input, check=False)
        if check and done.returncode:
            words = " ".join(map(str, arguments))
            raise RuntimeError(f"{words} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    @staticmethod
    def path(host: str | Path) -> str:
        """A host's path as the chroot sees it."""
        return f"/host{Path(host).resolve()}"

    def stop(self) -> None:
        """End the command (TERM first), and with it everything in its namespaces; remove its data."""
        if self.process.poll() is None:
            try:
                os.kill(self.pid, 15)
                self.process.wait(15)
            except (subprocess.TimeoutExpired, IndexError, ProcessLookupError, FileNotFoundError):
                self.process.kill()
                self.process.wait()
        self._lock.close()
        shutil.rmtree(self.data, ignore_errors=True)


def _sweep() -> None:
    """Remove data that runs left which were killed: nobody holds its lock any more."""
    for directory in cache().glob("data-*"):
        try:
            with (directory / ".lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except OSError:
            continue


if __name__ == "__main__":
    print(ensure())

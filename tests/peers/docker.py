"""A real Docker with BuildKit for one test session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.peers.chroot import Chroot

PREFIX = "dockermagic-peers-"


class Docker:
    """dockerd in its chroot. Containers and RUNs have the host's network: there is no bridge."""

    def __init__(self) -> None:
        _sweep_cgroups()
        self.cgroup = f"/{PREFIX}{os.getpid()}"
        self.chroot = Chroot(
            *("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--cgroup-parent", self.cgroup),
            *("--host", "unix:///run/docker.sock"),
        )

    def __call__(self, *arguments: str | Path, check: bool = True, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run the docker client; paths among the arguments are the chroot's (:meth:`path`)."""
        return self.chroot.run("docker", *arguments, check=check, input=input)

    def command(self, *arguments: str | Path) -> list[str]:
        return self.chroot.command("docker", *arguments)

    @staticmethod
    def path(host: str | Path) -> str:
        return Chroot.path(host)

    def load(self, archive: Path) -> None:
        self("load", "--quiet", "--input", self.path(archive))

    def build(
        self,
        context: Path,
        *arguments: str,
        tag: str = "",
        dockerfile: Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """``docker build`` of a directory of the host with plain progress, which comes on stderr."""
        words = ["build", "--progress=plain", "--network=host", *arguments]
        if tag:
            words += ["--tag", tag]
        if dockerfile:
            words += ["--file", self.path(dockerfile)]
        return self(*words, self.path(context), check=check)

    def save(self, images: str | Sequence[str], archive: Path) -> None:
        self("save", "--output", self.path(archive), *([images] if isinstance(images, str) else images))

    def stop(self) -> None:
        self.chroot.stop()
        _remove_cgroups(self.cgroup[1:])


def _remove_cgroups(name: str) -> None:
    for top in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for directory, _, _ in os.walk(top, topdown=False):
            try:
                Path(directory).rmdir()
            except OSError:
                break


def _sweep_cgroups() -> None:
    """Remove those that runs left which were killed: the process that each is named after is gone."""
    names = {path.name for path in Path("/sys/fs/cgroup").glob(f"*/{PREFIX}*")}
    for name in names | {path.name for path in Path("/sys/fs/cgroup").glob(f"{PREFIX}*")}:
        if not Path(f"/proc/{name.removeprefix(PREFIX)}").exists():
            _remove_cgroups(name)

"""The host's own container tools, each with a store of its own in a temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers import PeerUnavailable


@dataclass(frozen=True)
class Tool:
    """A program with the environment and options that keep it from touching the host's own state."""

    program: str
    options: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, *arguments: str | Path, check: bool = True, input: str = "", cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end; with ``check``, a failing run raises with its output."""
        done = subprocess.run(
            self.command(*arguments), env=os.environ | self.environment, capture_output=True, text=True, input=input,
            cwd=cwd, check=False,
        )  # fmt: skip
        if check and done.returncode:
            words = " ".join(map(str, (self.program, *arguments)))
            raise RuntimeError(f"{words} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def command(self, *arguments: str | Path) -> list[str]:
        return [self.program, *self.options, *map(str, arguments)]


def find(program: str, package: str) -> str:
    found = shutil.which(program)
    if not found:
        raise PeerUnavailable(f"no {program} on this machine: apt-get install {package}")
    return found


def containers_environment(directory: Path) -> dict[str, str]:
    """Settings for the tools of the containers family: a store below ``directory``, no raised limits, nothing global.

    The default ulimits are named since raising them is refused in some sandboxes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
    )
    (directory / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{directory}/graph"\nrunroot = "{directory}/run"\n'
    )
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
    (directory / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
    return {
        "CONTAINERS_CONF": str(directory / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(directory / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(directory / "registries.conf"),
        "XDG_RUNTIME_DIR": str(directory),
        "TMPDIR": str(directory),
    }


def buildah(directory: Path) -> Tool:
    """buildah with chroot isolation: crun refuses a hybrid cgroup tree."""
    environment = containers_environment(directory) | {"BUILDAH_ISOLATION": "chroot"}
    return Tool(find("buildah", "buildah"), (), environment)


def podman(directory: Path) -> Tool:
    return Tool(find("podman", "podman"), ("--log-level=error",), containers_environment(directory))


def skopeo(directory: Path) -> Tool:
    environment = containers_environment(directory)
    return Tool(find("skopeo", "skopeo"), ("--policy", str(directory / "policy.json")), environment)


def umoci() -> Tool:
    return Tool(find("umoci", "umoci"))

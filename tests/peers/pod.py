"""Containers like those that notebooks run in: Docker's own, with a small Debian that has Python, PRoot and busybox.

The project and the packages that it needs are mounted where this process has them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dockermagic.hostfacts import choose_sources, host_codename, read_apt_sources, render_deb822
from tests.peers import PeerUnavailable
from tests.peers.chroot import cache
from tests.peers.docker import Docker

PACKAGES = "python3,proot,busybox-static,ca-certificates"
IMAGE = "dockermagic-pod"
REPO = Path(__file__).parents[2]


def rootfs() -> Path:
    """The tar of that Debian, of this machine's release, so that its Python takes this one's packages; made once."""
    suite = host_codename()
    archive = cache() / f"pod-{suite}.tar"
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            if not shutil.which("mmdebstrap"):
                raise PeerUnavailable("no mmdebstrap to make a pod's image with: apt-get install mmdebstrap")
            sources, _ = choose_sources(suite, read_apt_sources(), suite)
            aside = archive.with_suffix(".new.tar")
            command = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", suite, str(aside), "-"]
            done = subprocess.run(command, input=render_deb822(sources), capture_output=True, text=True, check=False)
            if done.returncode:
                raise PeerUnavailable(f"mmdebstrap could not make a pod's image: {done.stderr.strip()[-600:]}")
            aside.rename(archive)
    return archive


class Pod:
    """One kind of container; each command runs in a fresh one, as user 1000 who has a home in its root."""

    def __init__(self, docker: Docker, *security: str) -> None:
        self.docker = docker
        self.security = security
        if IMAGE not in docker("images", "--format", "{{.Repository}}").stdout.split():
            docker("import", docker.path(rootfs()), IMAGE)

    def run(self, *command: str | Path, environment: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's directory; its output is in ``stdout``, also where it fails."""
        sites = [Path(entry) for entry in sys.path if entry.endswith("site-packages")]
        prefixes = sorted({site.parents[2] for site in sites if not site.is_relative_to(REPO)})
        words = ["run", "--rm", "--user", "1000:1000", "--memory", "2g", "--network", "host", "--workdir", str(REPO)]
        for place in (REPO, *prefixes):
            words += ["--volume", f"{self.docker.path(place)}:{place}:ro"]
        shares = os.pathsep.join(str(prefix / "share/jupyter") for prefix in {site.parents[2] for site in sites})
        variables = {
            "HOME": "/home/jovyan",
            "PYTHONPATH": os.pathsep.join([str(REPO), *map(str, sites)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "JUPYTER_PATH": shares,
        }
        for name, value in variables.items():
            words += ["--env", f"{name}={value}"]
        for each in environment:
            words += ["--env", each]
        home = ['mkdir -p /tmp/home && export HOME=/tmp/home && exec "$@"', "sh"]
        return self.docker(*words, *self.security, IMAGE, "sh", "-c", *home, *command, check=False)

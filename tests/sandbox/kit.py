"""What the sandbox tests share: a store with a busybox in it, and steps on top."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dockermagic.records import Records
from dockermagic.sandbox.base import Cancel, Process, Rootfs
from dockermagic.sandbox.namespaces import NamespaceSandbox
from dockermagic.sandbox.snapshot import Active, Snapshot, Snapshotter
from dockermagic.sandbox.ways import WAYS

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
app:x:1000:1000:An app:/home/app:/bin/sh
twin:x:1000:2000::/twin:/bin/sh
nohome:x:1001:1001:::/bin/sh
"""
GROUP = "root:x:0:\nwheel:x:10:root\nstaff:x:50:app\nvideo:x:44:app,nohome\napp:x:1000:\n"
PATH = {"PATH": "/bin"}
FRESH_PROC = not os.environ.get("DOCKERMAGIC_TESTS_OUTER_PROC")
"""Whether a /proc can be mounted: in a container with a masked one it cannot."""


class Room:
    """A sandbox and its snapshots. ``top`` is the snapshot that the next step stands on."""

    def __init__(self, home: Path, mode: str, *, fresh_proc: bool = FRESH_PROC) -> None:
        self.home = home
        self.mode = mode
        self.ids = WAYS[mode].ids
        self.records = Records(home)
        self.sandbox = NamespaceSandbox(mode, home, fresh_proc=fresh_proc)
        self.snapshots = Snapshotter(home, self.records, self.sandbox)
        self.top: Snapshot | None = None
        self.written: dict[int, bytes] = {}
        self.made: list[Active] = []

    def __enter__(self) -> Room:
        self.top = self.busybox()
        return self

    def __exit__(self, *error: object) -> None:
        for active in self.made:
            self.snapshots.discard(active)
        # What has other ids can only be removed from inside.
        paths = [str(path) for path in (self.home / "snapshots").iterdir()]
        self.sandbox.call("dockermagic.sandbox.trees:delete", paths=paths)
        self.sandbox.close()
        self.records.close()

    def busybox(self) -> Snapshot:
        """A base with busybox under every name, two files in /etc and the usual empty directories."""
        active = self.snapshots.prepare(None)
        root = active.upper
        for name in ("bin", "etc", "proc", "sys", "dev", "home/app"):
            (root / name).mkdir(parents=True)
        for name, mode in (("tmp", 0o1777), ("root", 0o700)):
            (root / name).mkdir()
            (root / name).chmod(mode)
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for name in os.popen(f"{BUSYBOX} --list").read().split():
            if name != "busybox":
                (root / "bin" / name).symlink_to("busybox")
        (root / "etc/passwd").write_text(PASSWD)
        (root / "etc/group").write_text(GROUP)
        return self.snapshots.commit(active, "base")

    def prepare(self, parent: Snapshot | None = None) -> Active:
        """A layer to be made, thrown away at the end of the test."""
        active = self.snapshots.prepare(parent or self.top)
        self.made.append(active)
        return active

    def run(
        self,
        command: str | list[str],
        *,
        rootfs: Rootfs | None = None,
        cancel: Cancel | None = None,
        output: Callable[[int, bytes], None] | None = None,
        **options: Any,
    ) -> int:
        """Run a shell command, or words, on top of the chain; what it wrote is in ``out`` and ``err``."""
        self.written = {1: b"", 2: b""}
        args = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
        process = Process(args, **{"env": PATH, **options})

        def take(stream: int, data: bytes) -> None:
            self.written[stream] += data

        return self.sandbox.run(rootfs or self.prepare().rootfs, process, output=output or take, cancel=cancel)

    @property
    def out(self) -> str:
        return self.written[1].decode()

    @property
    def err(self) -> str:
        return self.written[2].decode()

    def printed(self, command: str | list[str], **options: Any) -> str:
        """What a command that succeeds writes to its output."""
        code = self.run(command, **options)
        assert code == 0, self.err
        return self.out

    def step(self, command: str, *, key: str = "", **options: Any) -> Snapshot:
        """A layer on top of the chain, committed."""
        active = self.snapshots.prepare(self.top)
        code = self.run(command, rootfs=active.rootfs, **options)
        assert code == 0, self.err
        self.top = self.snapshots.commit(active, key or secrets.token_hex(8))
        return self.top

    def layer(self, snapshot: Snapshot) -> dict[str, tarfile.TarInfo]:
        """The entries of a snapshot's changeset by name, as an image would hold them."""
        read, write = os.pipe()
        with os.fdopen(read, "rb") as stream:
            done: dict[str, Any] = {}
            import threading

            def pack() -> None:
                try:
                    done["made"] = self.sandbox.call(
                        "dockermagic.oci.layer:pack", fds={"out": write}, directory=str(snapshot.fs), compression="none"
                    )
                finally:
                    os.close(write)

            thread = threading.Thread(target=pack)
            thread.start()
            data = stream.read()
            thread.join()
        assert "made" in done
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            return {member.name.rstrip("/"): member for member in archive}

"""What stands around a process inside its root: /proc, /sys, /dev, the network's files, and the mounts it asked for.

Two steps, because sources belong to the host and targets to a root filesystem that nobody trusts:
:meth:`Surroundings.collect` takes detached copies of the sources while the host is still visible,
:meth:`Surroundings.attach` runs inside the new root and resolves every target there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox.base import Mount, Process, Subpath
from dockermagic.sandbox.mounts import Stubs, mount_rootfs

if TYPE_CHECKING:
    from dockermagic.sandbox.launch import Setting

__all__ = ["Surroundings"]

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HARMLESS = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


class Surroundings:
    """The mounts around one process. Used once: collect, enter the root, attach."""

    def __init__(self, setting: Setting, process: Process) -> None:
        self.setting = setting
        self.process = process
        self.proc: int | None = None
        self.sysfs: int | None = None
        self.devices: dict[str, int] = {}
        self.binds: list[tuple[Mount, int, bool]] = []
        self.files: list[tuple[str, bytes]] = []

    def collect(self) -> None:
        """Take what the host has to give. The host's root is still "/"."""
        if not self.setting.fresh_proc:
            self.proc = sys.open_tree("/proc", recursive=True)
        if self.process.network == "host" and os.path.isdir("/sys/kernel"):
            self.sysfs = sys.open_tree("/sys", recursive=True)
            sys.mount_setattr("", sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID, directory=self.sysfs, recursive=True)
        if self.setting.mode != "root":
            for name, _, _ in _DEVICES:
                try:
                    self.devices[name] = sys.open_tree(f"/dev/{name}")
                except FileNotFoundError:
                    continue
        taken = {os.path.normpath(mount.target) for mount in self.process.mounts}
        for path, content in self._network_files():
            if path not in taken:
                self.files.append((path, content))
        for index, mount in enumerate(self.process.mounts):
            if mount.type in ("bind", "socket"):
                self.binds.append(self._take(index, mount))

    def _network_files(self) -> list[tuple[str, bytes]]:
        name = self.process.hostname
        hosts = [
            "127.0.0.1\tlocalhost" + (f" {name}" if name else ""),
            "::1\tlocalhost ip6-localhost ip6-loopback",
            "fe00::0\tip6-localnet",
            "ff00::0\tip6-mcastprefix",
            "ff02::1\tip6-allnodes",
            "ff02::2\tip6-allrouters",
        ]
        hosts += [f"{address}\t{host}" for host, address in self.process.extra_hosts]
        return [
            ("/etc/hosts", "\n".join(hosts).encode() + b"\n"),
            ("/etc/hostname", name.encode() + b"\n"),
            ("/etc/resolv.conf", _read("/etc/resolv.conf")),
        ]

    def _take(self, index: int, mount: Mount) -> tuple[Mount, int, bool]:
        if isinstance(mount.source, Subpath):
            place = f"{self.setting.mount_point}-{index}"
            os.makedirs(place, exist_ok=True)
            mount_rootfs(mount.source.rootfs, place, self.setting.base)
            root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                found = sys.open_in_root(root, mount.source.path, os.O_PATH)
            finally:
                os.close(root)
        else:
            found = os.open(str(mount.source), os.O_PATH | os.O_CLOEXEC)
        try:
            directory = stat.S_ISDIR(os.fstat(found).st_mode)
            tree = sys.open_tree("", directory=found, empty=True, recursive=True)
        finally:
            os.close(found)
        if mount.readonly:
            sys.mount_setattr("", sys.MOUNT_ATTR_RDONLY, directory=tree, recursive=True)
        return mount, tree, directory

    def attach(self, stubs: Stubs) -> None:
        """Put everything in its place. "/" is the root filesystem."""
        for path in ("/proc", "/dev", "/sys"):
            stubs.directory(path, keep=True)
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise SandboxError(f"{path} of the root filesystem is a link")
        if self.proc is not None:
            sys.move_mount(self.proc, "/proc")
        else:
            sys.mount("proc", "/proc", "proc", _HARMLESS)
        if self.sysfs is not None:
            sys.move_mount(self.sysfs, "/sys")
        elif self.process.network != "host":
            sys.mount("sysfs", "/sys", "sysfs", _HARMLESS | sys.MS_RDONLY)
        self._devices()
        self._mask()
        self._files(stubs)
        self._mounts(stubs)

    def _devices(self) -> None:
        sys.mount("tmpfs", "/dev", "tmpfs", sys.MS_NOSUID, "mode=755,size=65536k")
        mask = os.umask(0)
        if self.setting.mode == "root":
            for name, major, minor in _DEVICES:
                os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        else:
            for name, tree in self.devices.items():
                os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
                sys.move_mount(tree, f"/dev/{name}")
        for name, target in _LINKS:
            os.symlink(target, f"/dev/{name}")
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(f"/dev/{name}", 0o755)
        os.umask(mask)
        group = "" if self.setting.mode == "single" else ",gid=5"
        sys.mount(
            "devpts", "/dev/pts", "devpts", sys.MS_NOSUID | sys.MS_NOEXEC, f"newinstance,ptmxmode=0666,mode=0620{group}"
        )
        sys.mount("shm", "/dev/shm", "tmpfs", _HARMLESS, f"mode=1777,size={self.process.shm_size}")
        sys.mount("mqueue", "/dev/mqueue", "mqueue", _HARMLESS)

    def _mask(self) -> None:
        if self.process.security == "insecure":
            return
        null = "/dev/null"
        for path in _MASKED:
            try:
                directory = stat.S_ISDIR(os.lstat(path).st_mode)
            except OSError:
                continue
            if directory:
                sys.mount("tmpfs", path, "tmpfs", sys.MS_RDONLY, "size=0k,nr_inodes=2")
            else:
                sys.mount(null, path, "", sys.MS_BIND)
        for path in _READ_ONLY:
            try:
                tree = sys.open_tree(path, recursive=True)
            except OSError:
                continue
            sys.mount_setattr("", sys.MOUNT_ATTR_RDONLY, directory=tree, recursive=True)
            sys.move_mount(tree, path)

    def _files(self, stubs: Stubs) -> None:
        """The network's files, in memory, read-only."""
        if not self.files:
            return
        sys.mount("tmpfs", "/dev/shm", "tmpfs", _HARMLESS, "mode=755,size=16m")
        os.umask(0)
        for path, content in self.files:
            _bind_file(stubs, path, content, 0o644, 0, 0, True)
        os.umask(0o022)
        sys.umount("/dev/shm", sys.MNT_DETACH)

    def _mounts(self, stubs: Stubs) -> None:
        binds = {id(mount): (tree, directory) for mount, tree, directory in self.binds}
        for mount in self.process.mounts:
            target = os.path.normpath(os.path.join("/", self.process.cwd, mount.target))
            if target == "/":
                raise SandboxError("invalid mount target: a mount cannot cover the root directory")
            if mount.type == "tmpfs":
                stubs.directory(target)
                size = f",size={mount.size}" if mount.size else ""
                sys.mount("tmpfs", target, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, f"mode={mount.mode:o}{size}")
            elif mount.type == "file":
                sys.mount("tmpfs", "/dev/shm", "tmpfs", _HARMLESS, "mode=700,size=16m")
                _bind_file(stubs, target, mount.content, mount.mode, mount.uid, mount.gid, mount.readonly)
                sys.umount("/dev/shm", sys.MNT_DETACH)
            else:
                tree, directory = binds[id(mount)]
                if directory:
                    stubs.directory(target)
                else:
                    stubs.file(target)
                sys.move_mount(tree, target)


def _bind_file(stubs: Stubs, target: str, content: bytes, mode: int, uid: int, gid: int, readonly: bool) -> None:
    """A file of the memory file system that lies over /dev/shm at this moment, bound to ``target``."""
    name = f"/dev/shm/{len(os.listdir('/dev/shm'))}"
    fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        if uid or gid:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)
    stubs.file(target)
    tree = sys.open_tree(name)
    if readonly:
        sys.mount_setattr("", sys.MOUNT_ATTR_RDONLY, directory=tree)
    sys.move_mount(tree, target)

"""What stands around every process, built before it is known which process it will be: /proc, /sys, /dev.

:class:`Stage` mounts them beside each other on the resident process's private directory, in the mount namespace of the
process to come; entering the root filesystem then takes one move for each.
"""

from __future__ import annotations

import os
import stat

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox.mounts import Stubs
from dockermagic.sandbox.profile import Profile
from dockermagic.values import dataclass

__all__ = ["DEFAULT_SHM", "Setting", "Stage"]

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
    "/sys/fs/cgroup",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HARMLESS = sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC
DEFAULT_SHM = 64 << 20
PLACES = ("root", "proc", "sys", "dev", "devices", "files")


@dataclass(frozen=True, slots=True)
class Setting:
    """What the resident process knows and no request says: id mode, directories, what the host allows.

    ``overlay`` off: root filesystems are working trees (:mod:`.worktree`), which are kept under the name ``way``.
    """

    mode: str
    base: str
    mount_point: str
    fresh_proc: bool = True
    overlay: bool = True
    way: str = ""


class Stage:
    """The mounts around a process: :meth:`build` makes them, :meth:`move_in` puts them into the root."""

    def __init__(self, setting: Setting, profile: Profile) -> None:
        self.setting = setting
        self.profile = profile
        self.has_sys = False

    def place(self, name: str) -> str:
        """The directory of one of the parts, outside of the root."""
        return f"{self.setting.mount_point}/{name}"

    def build(self) -> None:
        """Mount all parts; the caller stands in a mount namespace of its own."""
        proc, system = self.place("proc"), self.place("sys")
        if self.setting.fresh_proc:
            sys.mount("proc", proc, "proc", _HARMLESS)
        else:
            sys.mount("/proc", proc, "", sys.MS_BIND | sys.MS_REC)
        is_hosts = self.profile.network == "host"
        if not is_hosts or (self.setting.mode == "root" and self.profile.masked):
            try:
                sys.mount("sysfs", system, "sysfs", _HARMLESS | sys.MS_RDONLY)
                self.has_sys = True
            except PermissionError:
                pass  # a pod whose own one is partly hidden gets no new one: none is there, then
        if is_hosts and not self.has_sys and os.path.isdir("/sys/kernel"):
            sys.mount("/sys", system, "", sys.MS_BIND | sys.MS_REC)
            sys.mount_setattr(system, sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID, recursive=True)
            self.has_sys = True
        self._devices(self.place("dev"))
        if self.profile.masked:
            self._mask()
        sys.mount("tmpfs", self.place("files"), "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, "mode=700,size=64m")

    def _devices(self, dev: str) -> None:
        """Device nodes work nowhere but where these are bound, so that one which a process makes is of no use to it."""
        sys.mount("tmpfs", dev, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV, "mode=755,size=65536k")
        mask = os.umask(0)
        source = self._nodes() if self.setting.mode == "root" else "/dev"
        for name, _, _ in _DEVICES:
            try:
                tree = sys.open_tree(f"{source}/{name}")
            except FileNotFoundError:
                continue
            os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            sys.move_mount(tree, f"{dev}/{name}")
        for name, target in _LINKS:
            os.symlink(target, f"{dev}/{name}")
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(f"{dev}/{name}", 0o755)
        os.umask(mask)
        group = "" if self.setting.mode == "single" else ",gid=5"
        options = f"newinstance,ptmxmode=0666,mode=0620{group}"
        sys.mount("devpts", f"{dev}/pts", "devpts", sys.MS_NOSUID | sys.MS_NOEXEC, options)
        sys.mount("shm", f"{dev}/shm", "tmpfs", _HARMLESS, f"mode=1777,size={DEFAULT_SHM}")
        sys.mount("mqueue", f"{dev}/mqueue", "mqueue", _HARMLESS)

    def _nodes(self) -> str:
        """A directory with nodes of its own: what root inside does to the mode of one does not reach the host's."""
        source = self.place("devices")
        sys.mount("tmpfs", source, "tmpfs", sys.MS_NOSUID, "mode=755,size=4k")
        try:
            for name, major, minor in _DEVICES:
                os.mknod(f"{source}/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        except PermissionError:  # root of a user namespace around us, as in an unprivileged LXC container
            return "/dev"
        return source

    def _mask(self) -> None:
        null = f"{self.setting.mount_point}/dev/null"
        for name in _MASKED:
            path = self.setting.mount_point + name
            try:
                directory = stat.S_ISDIR(os.lstat(path).st_mode)
            except OSError:
                continue
            if directory:
                sys.mount("tmpfs", path, "tmpfs", sys.MS_RDONLY, "size=0k,nr_inodes=2")
            else:
                sys.mount(null, path, "", sys.MS_BIND)
        for name in _READ_ONLY:
            path = self.setting.mount_point + name
            try:
                sys.mount(path, path, "", sys.MS_BIND | sys.MS_REC)
            except OSError:
                continue
            sys.mount_setattr(path, sys.MOUNT_ATTR_RDONLY, recursive=True)

    def move_in(self, old: int, stubs: Stubs, shm_size: int) -> None:
        """Move the parts into the root that the caller has entered; ``old`` is the root from before."""
        for name in ("proc", "sys", "dev"):
            path = f"/{name}"
            if not stubs.directory(path, keep=True) and stat.S_ISLNK(os.lstat(path).st_mode):
                raise SandboxError(f"{path} of the root filesystem is a link")
            if name != "sys" or self.has_sys:
                sys.move_mount(-1, path, source=self.place(name).lstrip("/"), source_directory=old)
        if shm_size != DEFAULT_SHM:
            sys.mount("shm", "/dev/shm", "tmpfs", sys.MS_REMOUNT | _HARMLESS, f"mode=1777,size={shm_size}")

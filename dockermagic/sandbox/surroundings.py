"""The files and mounts that one process asked for, on top of the stage.

Sources belong to the host and targets to a root filesystem that nobody trusts: :meth:`Surroundings.collect` takes
detached copies of the sources while the host is still visible, :meth:`Surroundings.attach` runs inside the new root and
resolves every target there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox.base import Mount, Process, Rootfs, Subpath
from dockermagic.sandbox.hosts import network_files
from dockermagic.sandbox.mounts import Stubs, mount_rootfs
from dockermagic.sandbox.stage import Setting
from dockermagic.sandbox.trees import NETWORK_FILES

__all__ = ["Surroundings"]

REPLACED = ("/dev/mqueue", "/dev/shm")
"""What the stage has mounted and a mount of the process takes the place of, rather than cover it."""


class Surroundings:
    """The mounts of one process. Used once: collect, enter the root, attach."""

    def __init__(self, setting: Setting, process: Process) -> None:
        self.setting = setting
        self.process = process
        self.trees: list[tuple[str, int, bool]] = []
        self.places = 0

    def collect(self) -> None:
        """Take what the host has to give. The host's root is still "/"."""
        wanted = [(self._target(mount), mount) for mount in self.process.mounts]
        taken = {target for target, _ in wanted}
        for path, content in network_files(self.process):
            if path not in taken:
                self.trees.append((path, self._file(content, 0o644, 0, 0, not self.process.writable_hosts), False))
        for target, mount in wanted:
            if mount.type == "tmpfs":
                self.trees.append((target, self._memory(mount), True))
            elif mount.type == "file":
                tree = self._file(mount.content, mount.mode, mount.uid, mount.gid, mount.readonly)
                self.trees.append((target, tree, False))
            elif mount.type in ("bind", "socket"):
                self.trees.append((target, *self._bind(mount)))
            else:
                raise SandboxError(f"unknown kind of mount: {mount.type}")

    def _target(self, mount: Mount) -> str:
        target = os.path.normpath(os.path.join("/", self.process.cwd, mount.target))
        if target == "/":
            raise SandboxError("invalid mount target: a mount cannot cover the root directory")
        return target

    def _place(self) -> str:
        """A new name in the memory file system of the stage, which nothing inside can see."""
        self.places += 1
        return f"{self.setting.mount_point}/files/{self.places}"

    def _file(self, content: bytes, mode: int, uid: int, gid: int, readonly: bool) -> int:
        name = self._place()
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            if (uid or gid) and self.setting.mode != "single":
                os.fchown(fd, uid, gid)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        tree = sys.open_tree(name)
        attributes = (sys.MOUNT_ATTR_RDONLY if readonly else 0) | (0 if mode & 0o111 else sys.MOUNT_ATTR_NOEXEC)
        if attributes:
            sys.mount_setattr("", attributes, directory=tree)
        return tree

    def _memory(self, mount: Mount) -> int:
        name = self._place()
        os.mkdir(name)
        options = f"mode={mount.mode:o}" + (f",size={mount.size}" if mount.size else "")
        if self.setting.mode != "single":  # there all ids are the same user
            options += f",uid={mount.uid},gid={mount.gid}"
        # A device of the host that root makes there must not work.
        flags = sys.MS_NOSUID | sys.MS_NODEV | (sys.MS_NOEXEC if mount.noexec else 0)
        flags |= sys.MS_RDONLY if mount.readonly else 0
        sys.mount("tmpfs", name, "tmpfs", flags, options)
        return sys.open_tree(name)

    def _bind(self, mount: Mount) -> tuple[int, bool]:
        if isinstance(mount.source, Subpath):
            found = self._inside(mount.source, mount.readonly)
        else:
            try:
                found = os.open(str(mount.source), os.O_PATH | os.O_CLOEXEC)
            except OSError as error:
                raise SandboxError(
                    f"the source of the mount {mount.target}: {error.strerror}: {mount.source}"
                ) from error
        try:
            directory = stat.S_ISDIR(os.fstat(found).st_mode)
            if (mount.uid or mount.gid) and self.setting.mode != "single":
                os.chown(f"/proc/self/fd/{found}", mount.uid, mount.gid)
            tree = sys.open_tree("", directory=found, empty=True, recursive=True)
        finally:
            os.close(found)
        attributes = sys.MOUNT_ATTR_NODEV | (sys.MOUNT_ATTR_RDONLY if mount.readonly else 0)
        sys.mount_setattr("", attributes, directory=tree, recursive=True)
        return tree, directory

    def _inside(self, source: Subpath, readonly: bool) -> int:
        """A path of another root filesystem; what is written to it, where that is allowed, stays in memory."""
        place = self._place()
        os.mkdir(place)
        rootfs = source.rootfs
        if not readonly and rootfs.upper is None:
            for name in ("fs", "empty"):
                os.mkdir(f"{place}-{name}", 0o755)
            rootfs = Rootfs(rootfs.lowers or (Path(f"{place}-empty"),), Path(f"{place}-fs"))
            # The sibling of the upper directory that overlayfs works in has its own name here.
            mount_rootfs(rootfs, place, self.setting.base, work=Path(f"{place}-work"))
        else:
            mount_rootfs(rootfs, place, self.setting.base)
        root = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return sys.open_in_root(root, source.path, os.O_PATH)
        except OSError as error:
            raise SandboxError(f"the source of a mount: {error.strerror}: {source.path}") from error
        finally:
            os.close(root)

    def attach(self, stubs: Stubs) -> None:
        """Put everything in its place. "/" is the root filesystem."""
        kernel = os.stat("/proc").st_dev
        for target, tree, directory in self.trees:
            try:
                if directory:
                    stubs.directory(target)
                else:
                    stubs.file(target)
            except SandboxError:
                if target not in NETWORK_FILES:
                    raise
                os.close(tree)  # a read-only root without a place for it
                continue
            if os.stat(target).st_dev == kernel:  # what we ask /proc next must be the kernel's answer, not the image's
                raise SandboxError(f"{target} cannot be mounted because it is inside /proc")
            if target in REPLACED:
                sys.umount(target, sys.MNT_DETACH)
            sys.move_mount(tree, target)

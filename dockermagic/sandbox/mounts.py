"""Mounting a root filesystem, and what belongs around a process: /proc, /dev, /sys, files, binds.

Everything happens in the mount namespace of the caller, which dies with it. Sources are taken as detached mounts before
the root is entered and attached after it, so that a link in a hostile root filesystem is only ever resolved inside of
it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from dockermagic.errors import SandboxError
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox.base import Rootfs
from dockermagic.sandbox.leftovers import Stub
from dockermagic.values import dataclass, field

__all__ = ["Stubs", "mount_rootfs", "overlay_options"]

# A page is the limit of mount data; the terminating zero and the options around the names take their part.
_PAGE = 4095


def _relative(path: Path, base: str) -> str:
    text = str(path)
    return text[len(base) + 1 :] if text.startswith(base + "/") else text


def _escape(path: str) -> str:
    """A path as overlayfs's option parser reads it."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def overlay_options(rootfs: Rootfs, base: str, work: Path | None = None) -> str:
    """The mount data of an overlay, with names relative to ``base`` where they can be; ``work`` is beside ``upper``."""
    lowers = ":".join(_escape(_relative(lower, base)) for lower in reversed(rootfs.lowers))
    options = f"lowerdir={lowers}"
    if rootfs.upper is not None:
        work = work or rootfs.upper.parent / "work"
        options += f",upperdir={_escape(_relative(rootfs.upper, base))},workdir={_escape(_relative(work, base))}"
        options += ",volatile"
    return options + ",userxattr"


def mount_rootfs(rootfs: Rootfs, target: str, base: str, *, work: Path | None = None) -> None:
    """Mount ``rootfs`` on the directory ``target``; the working directory becomes ``base``.

    Device nodes in it do not work. One directory alone is bound, several are an overlay. Without an upper the mount
    is read-only. Raises SandboxError that names what the kernel refused.
    """
    if not rootfs.lowers:
        if rootfs.upper is None:
            sys.mount("tmpfs", target, "tmpfs", sys.MS_RDONLY | sys.MS_NOSUID | sys.MS_NODEV, "size=4k,mode=755")
            return
        sys.mount(str(rootfs.upper), target, "", sys.MS_BIND)
        sys.mount_setattr(target, sys.MOUNT_ATTR_NODEV)
        return
    if rootfs.upper is None and len(rootfs.lowers) == 1:
        sys.mount(str(rootfs.lowers[0]), target, "", sys.MS_BIND)
        sys.mount_setattr(target, sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NODEV)
        return
    os.chdir(base)
    options = overlay_options(rootfs, base, work)
    flags = sys.MS_NODEV | (sys.MS_RDONLY if rootfs.upper is None else 0)
    if rootfs.upper is not None:
        try:
            os.mkdir(work or rootfs.upper.parent / "work", 0o700)
        except FileExistsError:
            pass
    try:
        if len(os.fsencode(options)) >= _PAGE:
            _mount_by_parts(rootfs, target, base, work)
        else:
            sys.mount("overlay", target, "overlay", flags, options)
    except OSError as error:
        missing = next((path for path in (*rootfs.lowers, rootfs.upper) if path and not path.is_dir()), None)
        if missing is not None:
            raise SandboxError(f"a layer's directory is gone: {missing}") from error
        raise SandboxError(f"the overlay of {len(rootfs.lowers)} layers was refused: {error.strerror}") from error


def _mount_by_parts(rootfs: Rootfs, target: str, base: str, work: Path | None) -> None:
    """The same through the new mount interface, which takes one layer at a time (Linux 6.5): for very deep chains."""
    context = sys.syscall(sys.SYS_FSOPEN, b"overlay", 1)
    try:

        def option(key: str, value: str | None) -> None:
            kind = 0 if value is None else 1  # FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING
            sys.syscall(
                sys.SYS_FSCONFIG, context, kind, key.encode(), os.fsencode(value) if value is not None else None, 0
            )

        for lower in reversed(rootfs.lowers):
            option("lowerdir+", _relative(lower, base))
        if rootfs.upper is not None:
            option("upperdir", _relative(rootfs.upper, base))
            option("workdir", _relative(work or rootfs.upper.parent / "work", base))
            option("volatile", None)
        option("userxattr", None)
        sys.syscall(sys.SYS_FSCONFIG, context, 6, None, None, 0)  # FSCONFIG_CMD_CREATE
        attributes = sys.MOUNT_ATTR_NODEV | (0 if rootfs.upper else sys.MOUNT_ATTR_RDONLY)
        tree = sys.syscall(sys.SYS_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)
    sys.move_mount(tree, target)


@dataclass(slots=True)
class Stubs:
    """Makes mount points inside the root that the caller stands in, and remembers those that must go again.

    ``device`` is the root's st_dev: what is made on another mount (a tmpfs over /run) vanishes with it.
    """

    device: int
    made: list[tuple[str, bool]] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)

    def directory(self, path: str, *, keep: bool = False, mode: int = 0o755) -> bool:
        """Make ``path`` and its parents as far as they are missing; whether anything was."""
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                return False
        except OSError:
            pass
        done = "/"
        for part in path.strip("/").split("/"):
            if part in ("", "."):
                continue
            done = os.path.join(done, part)
            try:
                if stat.S_ISDIR(os.stat(done).st_mode):
                    continue
                raise SandboxError(f"mount point {path}: {done} is not a directory")
            except FileNotFoundError:
                self._make(done, True, keep, mode)
        return True

    def file(self, path: str) -> None:
        """Make an empty file at ``path``, and its parents."""
        try:
            os.stat(path)
            return
        except OSError:
            path = os.path.realpath(path)
        self.directory(os.path.dirname(path))
        self._make(path, False, False, 0o644)

    def _make(self, path: str, directory: bool, keep: bool, mode: int) -> None:
        try:
            # A dangling link is made good inside the root, as a runtime does.
            path = os.path.realpath(path)
            parent = os.path.dirname(path)
            before = os.stat(parent)
            if directory:
                os.mkdir(path, mode)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))
        except OSError as error:
            if error.errno == errno.EROFS:
                raise SandboxError(f"mount point {path} does not exist and the root filesystem is read-only") from error
            raise SandboxError(f"mount point {path}: {error.strerror}") from error
        if before.st_dev == self.device and not keep:
            self.made.append((path, directory))
            self.times.setdefault(parent, before.st_mtime_ns)

    def list(self) -> Sequence[Stub]:
        """What was made, with the times that the parents have now."""
        found = []
        for path, directory in self.made:
            parent = os.path.dirname(path)
            now = os.stat(parent)
            found.append(Stub(path, directory, self.times[parent], now.st_mtime_ns, now.st_ctime_ns))
        return found

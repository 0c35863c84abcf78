"""The file system that layers are kept in: Linux's own; on any other host a recorded one (:mod:`.recorded`).

The names are those of :mod:`os` and mean the same; :func:`make_root` makes the directory of a layer.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

RECORDED = not (sys.platform.startswith("linux") and hasattr(os, "geteuid"))
"""Whether layers are records here, which nothing can be run in."""

# Flags of open that another system may have not, and then needs not.
O_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)

if TYPE_CHECKING or not RECORDED:
    from os import (
        chmod,
        chown,
        close,
        dup,
        fchmod,
        fchown,
        fstat,
        getegid,
        geteuid,
        getxattr,
        link,
        listdir,
        listxattr,
        lstat,
        major,
        makedev,
        minor,
        mkdir,
        mkfifo,
        mknod,
        open,
        pwrite,
        readlink,
        readv,
        removexattr,
        replace,
        rmdir,
        scandir,
        setxattr,
        stat,
        symlink,
        umask,
        unlink,
        utime,
    )

    def make_root(path: str) -> None:
        """Make the empty directory of a layer."""
        mkdir(path, 0o755)

else:
    from dockermagic.oci.recorded import *  # noqa: F403

__all__ = [
    "O_DIRECTORY",
    "O_NOFOLLOW",
    "O_NONBLOCK",
    "RECORDED",
    "chmod",
    "chown",
    "close",
    "dup",
    "fchmod",
    "fchown",
    "fstat",
    "getegid",
    "geteuid",
    "getxattr",
    "link",
    "listdir",
    "listxattr",
    "lstat",
    "major",
    "make_root",
    "makedev",
    "minor",
    "mkdir",
    "mkfifo",
    "mknod",
    "open",
    "pwrite",
    "readlink",
    "readv",
    "removexattr",
    "replace",
    "rmdir",
    "scandir",
    "setxattr",
    "stat",
    "symlink",
    "umask",
    "unlink",
    "utime",
]

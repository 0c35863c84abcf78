"""The file system that layers are kept in: Linux's own; on any other host a recorded one (:mod:`.recorded`).

The names are those of :mod:`os` and mean the same; :func:`make_root` makes the directory of a layer.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

RECORDED = not (sys.platform.startswith("linux") and hasattr(os, "geteuid"))
"""Whether layers are records here, which nothing can be run in."""

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

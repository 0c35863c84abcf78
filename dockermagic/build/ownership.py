"""Owners inside a mounted root filesystem: set where they can be, recorded where this id mode cannot hold them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from dockermagic.oci.overlay import OVERRIDE, Ownership, Status

__all__ = ["Owners", "get_owner"]

REFUSED = (errno.EPERM, errno.EINVAL, errno.EOVERFLOW)


def get_owner(path: str, status: os.stat_result) -> tuple[int, int, int]:
    """The owner and mode that a file of an image is meant to have: the record, where there is one."""
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        try:
            fields = os.getxattr(path, OVERRIDE).decode("ascii").split(":")
            return int(fields[0]), int(fields[1]), status.st_mode
        except (OSError, ValueError, IndexError):
            pass
    # Without root's privileges a file of the user's own stands for one of root's.
    uid = 0 if status.st_uid == os.geteuid() else status.st_uid
    gid = 0 if status.st_gid == os.getegid() else status.st_gid
    return uid, gid, status.st_mode


class Owners:
    """Sets owners below ``root``; what no attribute can hold goes to the file ``record`` when saved."""

    def __init__(self, root: str, record: str) -> None:
        self.root = root
        self.records = Ownership(record)

    def set(self, place: str, uid: int, gid: int, mode: int) -> None:
        """Give a file its owner, without following a link. ``mode`` has the type. A stale record goes away."""
        plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        try:
            os.lchown(place, *self.records.real(uid, gid))
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            path = place[len(self.root) :].lstrip("/")
            file = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) if plain else None
            try:
                self.records.record(path, Status(mode, uid, gid), file=file)
            finally:
                if file is not None:
                    os.close(file)
            return
        if plain and hasattr(os, "removexattr"):
            with contextlib.suppress(OSError):
                os.removexattr(place, OVERRIDE)

    def save(self) -> None:
        """Write the records that no attribute could hold."""
        self.records.save()

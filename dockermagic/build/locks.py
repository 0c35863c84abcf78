"""Locks between processes and threads, held by the operating system: they die with whoever held them."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from pathlib import Path

from dockermagic.errors import BuildInterruptedError
from dockermagic.oci.disk import RECORDED
from dockermagic.oci.lock import claim, discard
from dockermagic.sandbox.base import Cancel

__all__ = ["Lock"]


class Lock:
    """An advisory lock on a name, exclusive unless ``shared``; a context manager.

    All names share one file: a name is a byte in it that is locked (an open file description lock, fcntl(2)), so that
    nothing has to be cleared up. Where only Linux's kind of lock would do for that, it is a file of its own.
    """

    def __init__(self, path: Path, name: str, *, shared: bool = False) -> None:
        self.path = path
        self.offset = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:7], "big")
        self.shared = shared
        self._file = Path(f"{path}.{self.offset:x}")
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        if RECORDED:
            return self._try_file()
        import fcntl

        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kind = fcntl.F_RDLCK if self.shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi", kind, os.SEEK_SET, self.offset, 1, 0))
        except (BlockingIOError, PermissionError):
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def _try_file(self) -> bool:
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        if claim(fd, shared=self.shared, wait=False) and os.fstat(fd).st_nlink:
            self._fd = fd
            return True
        os.close(fd)
        return False

    def acquire(self, cancel: Cancel | None = None) -> None:
        """Wait for the lock; an interrupt or ``cancel`` ends the wait with :class:`BuildInterruptedError`."""
        pause = 0.001
        while not self.try_acquire():
            if cancel is not None and cancel.is_set():
                raise BuildInterruptedError("interrupted while waiting for another build")
            time.sleep(pause)
            pause = min(pause * 2, 0.1)

    def release(self) -> None:
        """Give the lock back; idempotent."""
        if self._fd >= 0:
            discard(self._fd, self._file) if RECORDED else os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

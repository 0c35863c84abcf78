"""Locks between processes, held by the operating system: they die with whoever held them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dockermagic.errors import BuildInterruptedError
from dockermagic.sandbox.base import Cancel

__all__ = ["Lock"]


class Lock:
    """An advisory lock on a file, exclusive unless ``shared``; a context manager."""

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self.shared = shared
        self._fd = -1

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        import fcntl

        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

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
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

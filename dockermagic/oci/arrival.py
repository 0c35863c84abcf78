"""A blob that is read while it comes: what is downloaded is unpacked before its last byte is here.

The reader gets the bytes unverified and has to check the digest itself, as :func:`dockermagic.oci.unpack.unpack` does.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator

from dockermagic.errors import DockermagicError

__all__ = ["Arrival", "Reading"]

_PIECE = 1 << 20
_LOOK_AGAIN = 0.2

Reading = Callable[[int], contextlib.AbstractContextManager[int]]
"""Gives a descriptor to read a layer's blob from, by the layer's number, also while it is still coming."""


class Arrival:
    """One blob on its way. One thread brings it, with :meth:`begin`, :meth:`grown` and :meth:`end`; another reads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._file = -1
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None

    def begin(self, file: int) -> None:
        """Its bytes will stand in this file; the descriptor stays the caller's."""
        with self._changed:
            self._file = os.dup(file)
            self._changed.notify_all()

    def grown(self, size: int) -> None:
        """So many bytes are in the file now."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """All is in the file, or the blob does not come because of the error. The first end counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
                if error is None and self._file >= 0:
                    self._size = os.fstat(self._file).st_size
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file. Idempotent; to be called when nobody reads any more."""
        with self._changed:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    @contextlib.contextmanager
    def reading(self) -> Iterator[int]:
        """A descriptor to read the whole blob from, at once or as it comes.

        If the blob does not come, what the block raises is the error that :meth:`end` was told.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._file >= 0)
            if self._error is not None:
                raise self._error
            is_here = self._ended
        if is_here:
            file = os.open(f"/dev/fd/{self._file}", os.O_RDONLY)  # with a position of its own
            try:
                yield file
            finally:
                os.close(file)
            return
        out, into = _pipe()
        left = threading.Event()
        feeder = threading.Thread(target=self._feed, args=(into, left), daemon=True)
        feeder.start()
        try:
            yield out
        except DockermagicError:
            left.set()
            if self._error is not None:
                raise self._error from None
            raise
        finally:
            left.set()
            os.close(out)
            feeder.join()

    def _feed(self, into: int, left: threading.Event) -> None:
        """Write what is there into the pipe, until all is or the reader has left."""
        os.set_blocking(into, False)
        ready = select.poll()
        ready.register(into, select.POLLOUT)
        done = 0
        try:
            while not left.is_set() and (size := self._more(done)) is not None:
                if size and ready.poll(_LOOK_AGAIN * 1000):
                    done += os.splice(self._file, into, size, offset_src=done)
        except OSError:  # the reader is gone, and says why itself
            return
        finally:
            os.close(into)

    def _more(self, done: int) -> int | None:
        """How much comes after the first ``done`` bytes, 0 where nothing has come for a while; None at the end."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._size > done or self._ended, _LOOK_AGAIN):
                return 0
            if self._error is not None or self._size == done:
                return None
            return self._size - done


def _pipe() -> tuple[int, int]:
    """A pipe that takes a whole piece at once, where the system allows it."""
    out, into = os.pipe()
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIECE)
    return out, into

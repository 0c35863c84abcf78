"""A terminal of its own for a container, tied to the person's: raw mode, both directions, and the window's size."""

from __future__ import annotations

import errno
import os
import select
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["attached"]


def attached(run: Callable[[int], int], write: Callable[[bytes], None], *, keyboard: int | None = None) -> int:
    """Call ``run`` with the descriptor of a new terminal and return its result; ``write`` gets what appears on it.

    With ``keyboard``, a terminal's descriptor, that one is raw as long as it lasts, what is typed goes to the new one,
    and so do changes of the window's size. Everything is as before when it returns.
    """
    ours, theirs = os.openpty()
    try:
        _copy_size(keyboard, theirs)
        pump = threading.Thread(target=_pump, args=(ours, keyboard, write), name="dockermagic-terminal")
        with _raw(keyboard), _resizing(keyboard, ours):
            pump.start()
            try:
                return run(theirs)
            finally:
                # The last one that has it open: the pump reads what is left, then sees the end.
                os.close(theirs)
                pump.join()
    finally:
        os.close(ours)


def _pump(ours: int, keyboard: int | None, write: Callable[[bytes], None]) -> None:
    """Carry bytes in both directions until nobody has the other side of the terminal open."""
    watched = [ours] if keyboard is None else [ours, keyboard]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if ours in ready:
            try:
                data = os.read(ours, 1 << 16)
            except OSError as error:
                if error.errno == errno.EIO:  # Linux's way to say that it is the end
                    return
                raise
            if not data:
                return
            write(data)
        if keyboard is not None and keyboard in ready:
            typed = os.read(keyboard, 1 << 12)
            if typed:
                os.write(ours, typed)
            else:
                watched.remove(keyboard)


def _copy_size(source: int | None, target: int) -> None:
    import fcntl
    import termios

    size = struct.pack("HHHH", 24, 80, 0, 0)
    if source is not None:
        try:
            size = fcntl.ioctl(source, termios.TIOCGWINSZ, size)
        except OSError:
            pass
    fcntl.ioctl(target, termios.TIOCSWINSZ, size)


@contextmanager
def _raw(keyboard: int | None) -> Iterator[None]:
    import termios
    import tty

    if keyboard is None:
        yield
        return
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextmanager
def _resizing(keyboard: int | None, ours: int) -> Iterator[None]:
    import signal

    if keyboard is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGWINCH, lambda *_: _copy_size(keyboard, ours))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)

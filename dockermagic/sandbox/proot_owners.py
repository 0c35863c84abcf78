"""The listener behind PRoot: it records owners from calls whose paths PRoot has made those of the host."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Sequence
from pathlib import Path

from dockermagic.sandbox.listener import Listener

__all__ = ["Recorder"]


class Recorder(Listener):
    """Records owners below a directory, for processes that PRoot translates the paths of. All have these ``groups``."""

    def __init__(self, fd: int, root: Path, groups: Sequence[int]) -> None:
        super().__init__(fd, root, groups)
        self.me = (os.geteuid(), os.getegid())
        self.prefix = f"{os.path.realpath(root)}/"
        os.fchdir(self.own_fds)

    def is_waiting(self) -> bool:
        """Whether somebody asks; when the last process under the filter is gone, nobody does."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _is_inside(self, name: str, found: os.stat_result) -> bool:
        return os.readlink(name).startswith(self.prefix)

    def _chown(self, fd: int, owner: list[int], bits: int, pid: int) -> None:
        # PRoot asks for its own ids where the process asks for root's.
        super()._chown(
            fd, [0 if wanted == own else wanted for wanted, own in zip(owner, self.me, strict=True)], bits, pid
        )

    def _note(self, name: str, found: os.stat_result, record: bytes) -> None:
        try:
            super()._note(name, found, record)
        except PermissionError:  # a file that is closed to its owner
            os.chmod(name, 0o700)
            try:
                super()._note(name, found, record)
            finally:
                os.chmod(name, stat.S_IMODE(found.st_mode))

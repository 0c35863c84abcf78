"""The listener behind PRoot: what a namespace would make different for a process, told to it call by call.

PRoot translates paths and nothing else. A server's port may be taken or closed to us, the name of the host is another
one, and what a process is given at its start must not act on PRoot itself. Sockets are made here and handed over, so
that they can be bound from here; that takes no right to trace, which PRoot alone can have.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from dockermagic.sandbox import seccomp, syscalls
from dockermagic.sandbox.listener import Verdict, c_int
from dockermagic.sandbox.moved_ports import MovedPorts
from dockermagic.sandbox.proot_owners import Recorder

__all__ = ["MARK", "Answers", "listens"]

MARK = ":"
"""Before every variable of the environment that is meant for the command: neither PRoot nor its loader knows it so."""

# struct seccomp_notif_addfd: id, flags, source, number there, its flags.
_ADDFD = struct.Struct("QIIII")
_ADD = 0x40182103
_AT_NUMBER, _AND_ANSWER = 1, 2
_MOST_SOCKETS = 64
_FIELD = 65
_MOST_VARIABLES = 1 << 16
_PATIENCE = struct.pack("ll", 2, 0)


class Answers(Recorder):
    """Answers for one command and all it starts; ``begins`` is called with its process id before it is executed.

    ``stderr`` becomes its standard error then, in the place of PRoot's own; it is closed. ``tracer`` is PRoot itself.
    """

    def __init__(
        self,
        fd: int,
        root: Path,
        groups: Sequence[int],
        ports: MovedPorts,
        hostname: str,
        tracer: int,
        stderr: int,
        begins: Callable[[int], None],
    ) -> None:
        super().__init__(fd, root, groups)
        self.ports = ports
        self.hostname = hostname
        self.tracer = tracer
        self.stderr = stderr
        self.begins = begins
        self.sockets: OrderedDict[int, socket.socket] = OrderedDict()  # by inode: neither bound nor connected yet
        self.names: dict[int, bytes] = {}  # of those that were moved, by inode: what they were to be bound to
        self.answers = {
            "socket": self._socket,
            "bind": self._bind,
            "connect": self._connect,
            "getsockname": self._getsockname,
            "uname": self._uname,
            "execve": self._execve,
        }

    def close(self) -> None:
        while self.sockets:
            self.sockets.popitem()[1].close()
        if self.stderr >= 0:
            os.close(self.stderr)
        super().close()

    def _do(self, call: str, bits: int, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        answer = self.answers.get(call)
        if answer is None:
            return super()._do(call, bits, identity, pid, arguments)
        return answer(identity, pid, arguments)

    # --- the beginning

    def _execve(self, identity: int, pid: int, arguments: list[int]) -> Verdict:
        if self.stderr >= 0 and pid != self.tracer:
            self._unmark(pid, arguments[2])
            self._valid(identity)
            syscalls.ioctl(self.fd, _ADD, _ADDFD.pack(identity, _AT_NUMBER, self.stderr, 2, 0))
            os.close(self.stderr)
            self.stderr = -1
            self.begins(pid)
        return Verdict.GO_ON

    def _unmark(self, pid: int, address: int) -> None:
        """Leave of an environment what was marked, without the mark."""
        memory = os.open(f"{pid}/mem", os.O_RDWR | os.O_CLOEXEC, dir_fd=self.proc)
        try:
            words = os.pread(memory, 8 * _MOST_VARIABLES, address)
            mark = MARK.encode()
            kept = []
            for (pointer,) in struct.iter_unpack("Q", words[: len(words) // 8 * 8]):
                if not pointer:
                    break
                if os.pread(memory, len(mark), pointer) == mark:
                    kept.append(pointer + len(mark))
            os.pwrite(memory, struct.pack(f"{len(kept) + 1}Q", *kept, 0), address)
        finally:
            os.close(memory)

    # --- ports

    def _socket(self, identity: int, pid: int, arguments: list[int]) -> Verdict:
        family, kind, protocol = map(c_int, arguments[:3])
        made = socket.socket(family, kind & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC), protocol)
        try:
            os.set_blocking(made.fileno(), not kind & socket.SOCK_NONBLOCK)
            flags = os.O_CLOEXEC if kind & socket.SOCK_CLOEXEC else 0
            syscalls.ioctl(self.fd, _ADD, _ADDFD.pack(identity, _AND_ANSWER, made.fileno(), 0, flags))
        except BaseException:
            made.close()
            raise
        inode = os.fstat(made.fileno()).st_ino
        self.names.pop(inode, None)
        self.sockets[inode] = made
        if len(self.sockets) > _MOST_SOCKETS:
            self.sockets.popitem(last=False)[1].close()
        return Verdict.ANSWERED

    def _inode(self, identity: int, pid: int, fd: int) -> int:
        try:
            found = os.stat(f"{pid}/fd/{c_int(fd)}", dir_fd=self.proc)
        except OSError:
            return 0  # the kernel has its own words for that
        self._valid(identity)
        return found.st_ino if stat.S_ISSOCK(found.st_mode) else 0

    def _address(self, pid: int, one: socket.socket, arguments: list[int]) -> tuple[bytes, tuple[str | int, ...]]:
        """What a process says an address is, as it stands and as Python has it; empty where it is none of ours."""
        size = 16 if one.family == socket.AF_INET else 28
        if not size <= arguments[2] & 0xFFFFFFFF <= 128:
            return b"", ()
        raw = self.memory(pid, arguments[1], size)
        (port,) = struct.unpack_from(">H", raw, 2)
        if struct.unpack_from("H", raw)[0] != one.family or not port:
            return b"", ()
        if one.family == socket.AF_INET:
            return raw, (socket.inet_ntop(one.family, raw[4:8]), port)
        flow, scope = struct.unpack_from(">I", raw, 4)[0], struct.unpack_from("I", raw, 24)[0]
        return raw, (socket.inet_ntop(one.family, raw[8:24]), port, flow, scope)

    def _bind(self, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        inode = self._inode(identity, pid, arguments[0])
        one = self.sockets.pop(inode, None)
        if one is None:
            return Verdict.GO_ON
        raw, address = self._address(pid, one, arguments)
        if not address:
            one.close()  # held on to, it would outlive its owner
            return Verdict.GO_ON
        try:
            if self.ports.bind(one, address):
                self.names[inode] = raw
        except OSError:
            self.sockets[inode] = one  # another port may be tried
            raise
        one.close()
        return 0

    def _connect(self, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        inode = self._inode(identity, pid, arguments[0])
        one = self.sockets.pop(inode, None)
        if one is None:
            return Verdict.GO_ON
        with one:
            _, address = self._address(pid, one, arguments)
            if not address:
                return Verdict.GO_ON
            # On this machine it takes no time; where a server takes nobody in, others wait for us meanwhile.
            patience = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, len(_PATIENCE))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
            try:
                return 0 if self.ports.connect(one, address) else Verdict.GO_ON
            finally:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)

    def _getsockname(self, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        raw = self.names.get(self._inode(identity, pid, arguments[0]))
        if raw is None:
            return Verdict.GO_ON
        (room,) = struct.unpack("i", self.memory(pid, arguments[2], 4))
        if room < 0:
            raise OSError(errno.EINVAL, "")
        self.store(pid, arguments[1], raw[:room])
        self.store(pid, arguments[2], struct.pack("i", len(raw)))
        return 0

    # --- the host's name

    def _uname(self, identity: int, pid: int, arguments: list[int]) -> int | Verdict:
        with open(os.open(f"{pid}/personality", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc), "rb") as personality:
            if not self.hostname or int(personality.read(), 16):
                return Verdict.GO_ON
        found = os.uname()
        fields = (found.sysname, self.hostname, found.release, found.version, found.machine, "(none)")
        self._valid(identity)
        data = b"".join(os.fsencode(field)[: _FIELD - 1].ljust(_FIELD, b"\0") for field in fields)
        self.store(pid, arguments[0], data)
        return 0


@cache
def listens() -> bool:
    """Whether this kernel lets us answer for a process: tried once, on a child.

    It takes Linux 5.14, and nobody around us who listens already.
    """
    if not seccomp.proot_listener_program(False):
        return False
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            code = _listen()
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _listen() -> int:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            socket.send_fds(theirs, [b"."], [seccomp.install(seccomp.proot_listener_program(False), listen=True)])
            socket.socket(socket.AF_INET).bind(("127.0.0.1", 0))
            os._exit(os.uname().nodename != "inside")
        os._exit(1)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    answers = Answers(fds[0], Path("/"), (0,), MovedPorts(Path("/")), "inside", -1, -1, lambda pid: None)
    poll = select.poll()
    poll.register(answers.fd, select.POLLIN)
    while any(events & select.POLLIN for _, events in poll.poll()):
        answers.answer()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""What a process gives up before its command begins: ids, capabilities, system calls."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Sequence

from dockermagic.errors import SandboxError
from dockermagic.sandbox import seccomp, users
from dockermagic.sandbox import syscalls as sys
from dockermagic.sandbox.base import Process
from dockermagic.sandbox.capabilities import LAST
from dockermagic.sandbox.channels import Records

__all__ = ["bound", "drop_privileges", "reset_signals"]


def bound(keep: int) -> None:
    """Give up, for good and for every program to come, the capabilities that are not in ``keep``."""
    for capability in range(LAST + 1):
        if not keep >> capability & 1:
            try:
                sys.prctl(sys.PR_CAPBSET_DROP, capability)
            except OSError as error:
                if error.errno == errno.EINVAL:  # the kernel knows fewer
                    break
                raise


def drop_privileges(
    process: Process, identity: users.Identity, records: Records | None, upper: str | None, keep: int
) -> None:
    """Ids, filters, capabilities: in the order in which each still may be done."""
    single = records is not None
    if single and identity.uid:
        _become_the_only_user(identity)
        bound(keep)
    os.umask(process.umask)
    if not single:
        try:
            os.setgroups(identity.groups)
            os.setresgid(identity.gid, identity.gid, identity.gid)
        except OSError as error:
            raise _unmapped(error, *identity.groups) from error
    if process.security != "insecure" and (program := seccomp.default_profile(keep)):
        seccomp.install(program)
    if records is not None and not identity.uid:
        _fake(records, upper, identity.groups)
    elif records is not None and len(identity.groups) > 1:
        _tell_groups(records, identity.groups)
    if not single:
        try:
            os.setresuid(identity.uid, identity.uid, identity.uid)
        except OSError as error:
            raise _unmapped(error, identity.uid) from error
    # Until exec this is a copy of the resident process: its memory and program are the host's business.
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    if single or identity.uid == 0:
        # What the sandbox itself was not given, nobody inside can have.
        sys.capset(keep & sys.capget() if identity.uid == 0 else 0)
    # A change of ids clears it.
    sys.prctl(sys.PR_SET_PDEATHSIG, signal.SIGKILL)
    reset_signals()


def reset_signals() -> None:
    """Let every signal do to the command what it does by default, also what nohup or Python had ignored until here."""
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _unmapped(error: OSError, *ids: int) -> SandboxError:
    return SandboxError(
        f"the process cannot have the ids {', '.join(map(str, ids))}: {error.strerror}",
        hint="The ids of an image must lie in the range that /etc/subuid and /etc/subgid give this user.",
    )


def _become_the_only_user(identity: users.Identity) -> None:
    """The single id is shown as the wanted one in a user namespace below; every file of it is that user's then."""
    sys.unshare(sys.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{identity.uid} 0 1"), ("gid_map", f"{identity.gid} 0 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, text.encode())
        os.close(fd)


def _fake(records: Records, upper: str | None, groups: Sequence[int]) -> None:
    """Have what takes more than one id answered from outside, or by the kernel alone where it has no listeners."""
    if program := seccomp.notify_program():
        try:
            fd = seccomp.install(program, listen=True)
        except OSError:
            seccomp.install(seccomp.succeed_program())
            return
        _listened(records, {"upper": upper, "groups": list(groups)}, fd)


def _tell_groups(records: Records, groups: Sequence[int]) -> None:
    """Have the one thing that its user namespace cannot show answered from outside; files are its own anyway."""
    if program := seccomp.groups_program():
        with contextlib.suppress(OSError):
            _listened(records, {"groups": list(groups)}, seccomp.install(program, listen=True))


def _listened(records: Records, message: dict[str, object], fd: int) -> None:
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    records.tell(message, [fd, namespace])
    os.close(fd)
    os.close(namespace)

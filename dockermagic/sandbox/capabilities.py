"""Linux capabilities by name, and the set that Docker gives a process."""

from __future__ import annotations

from dockermagic.errors import SandboxError
from dockermagic.sandbox.base import Process

__all__ = ["DEFAULT", "LAST", "NAMES", "allowed", "mask"]

# In the order of their numbers, linux/capability.h.
_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = tuple(_NAMES.split())
LAST = len(NAMES) - 1
_NUMBER = {name: number for number, name in enumerate(NAMES)}


def mask(names: tuple[str, ...]) -> int:
    """The bits of ``names``, with or without ``CAP_``, in any case; ``ALL`` is every one. Raises SandboxError for
    others.
    """
    bits = 0
    for name in names:
        plain = name.upper().removeprefix("CAP_")
        if plain == "ALL":
            return (1 << len(NAMES)) - 1
        if plain not in _NUMBER:
            raise SandboxError(f"unknown capability: {name!r}")
        bits |= 1 << _NUMBER[plain]
    return bits


_DEFAULT = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE
"""
DEFAULT = mask(tuple(_DEFAULT.split()))


def allowed(process: Process) -> int:
    """The capabilities of ``process`` while it is root, and its bounding set."""
    if process.security == "insecure":
        return mask(("ALL",))
    base = DEFAULT
    if any(name.upper() in ("ALL", "CAP_ALL") for name in process.cap_drop):
        base = 0
    return (base | mask(process.cap_add)) & ~mask(
        tuple(name for name in process.cap_drop if name.upper() not in ("ALL", "CAP_ALL"))
    )

"""Seccomp filters: Docker's default profile, and the one that lets a single id act as root does.

A filter is a classic BPF program, built here and handed to the kernel through ctypes. Numbers are looked for by binary
search over ranges; the kernel remembers the numbers that are always allowed, so they cost next to nothing.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from functools import cache

from dockermagic.sandbox import syscalls
from dockermagic.sandbox.capabilities import mask
from dockermagic.sandbox.syscall_numbers import numbers

__all__ = [
    "CHOWN",
    "GET_IDS",
    "MKNOD",
    "PROOT_CALLS",
    "SET_IDS",
    "default_profile",
    "groups_program",
    "install",
    "interfaces",
    "notify_program",
    "proot_listener_program",
    "proot_program",
    "succeed_program",
]

ALLOW = 0x7FFF0000
NOTIFY = 0x7FC00000
_ERRNO = 0x00050000
EPERM, EINVAL, ENOSYS = 1, 22, 38

# linux/audit.h, by machine: the kernel's name of each interface, and those that share its value with a bit set.
_MACHINES = {
    "x86_64": ((0xC000003E, "x86_64", "x32"), (0x40000003, "i386", "")),
    "aarch64": ((0xC00000B7, "aarch64", ""), (0x40000028, "arm", "")),
}
_X32_BIT = 0x40000000

_LOAD, _JUMP, _JUMP_EQ, _JUMP_GE, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06

Program = list[tuple[int, int, int, int]]

# Calls that need a capability in Docker's profile; everything else in the table of numbers is allowed, but for
# _SPECIAL.
_WITH_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount mount_setattr"
        " move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns statmount syslog"
        " umount umount2 unshare"
    ),
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
_SPECIAL = ("socket", "personality", "clone", "clone3")
_NEW_NAMESPACES = 0x7E020000
_AF_VSOCK = 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

CHOWN = ("chown", "lchown", "fchown", "fchownat", "chown32", "lchown32", "fchown32")
_SET_IDS = """
setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid setuid32 setgid32 setreuid32 setregid32
setresuid32 setresgid32 setgroups32 setfsuid32 setfsgid32
"""
SET_IDS = tuple(_SET_IDS.split())
_GET_IDS = """
getuid geteuid getgid getegid getresuid getresgid getgroups getuid32 geteuid32 getgid32 getegid32 getresuid32
getresgid32 getgroups32
"""
GET_IDS = tuple(_GET_IDS.split())
_GET_GROUPS = ("getgroups", "getgroups32")
MKNOD = ("mknod", "mknodat")
PROOT_CALLS = ("socket", "bind", "connect", "getsockname", "uname", "execve")
"""What is answered for PRoot besides owners: the calls that a namespace would give another meaning."""
_AF_INET, _AF_INET6 = 2, 10
_SOCK_STREAM, _SOCK_DGRAM = 1, 2
_UNKNOWN_TO_PROOT = """
statx openat2 faccessat2 fchmodat2 clone3 execveat open_tree fspick mount_setattr name_to_handle_at seccomp
setxattrat getxattrat listxattrat removexattrat
"""
_PR_SET_SECCOMP = 22


def _return(action: int) -> Program:
    return [(_RETURN, 0, 0, action)]


def _errno(number: int) -> Program:
    return _return(_ERRNO | number)


def _argument(index: int) -> tuple[Program, Program]:
    """Load the low and the high word of an argument (both machines are little-endian)."""
    place = 16 + 8 * index
    return [(_LOAD, 0, 0, place)], [(_LOAD, 0, 0, place + 4)]


def _one_of(index: int, values: Iterable[int], then: Program, otherwise: Program) -> Program:
    """Whether a 64-bit argument is one of some 32-bit values."""
    low, high = _argument(index)
    compares: Program = []
    values = list(values)
    for number, value in enumerate(values):
        compares.append((_JUMP_EQ, len(values) - 1 - number + len(otherwise), 0, value))
    body = [*low, *compares, *otherwise, *then]
    return [*high, (_JUMP_EQ, 1, 0, 0), (_JUMP, 0, 0, len(body) - len(otherwise) - len(then)), *body]


def _search(branches: list[tuple[int, Program]]) -> Program:
    """A decision by number; each branch holds from its number up to the next one's."""
    if len(branches) == 1:
        return branches[0][1]
    middle = len(branches) // 2
    below, above = _search(branches[:middle]), _search(branches[middle:])
    pivot = branches[middle][0]
    if len(below) <= 255:
        return [(_JUMP_GE, len(below), 0, pivot), *below, *above]
    return [(_JUMP_GE, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]


def _by_number(actions: dict[int, Program], default: Program) -> Program:
    branches: list[tuple[int, Program]] = [(0, default)]
    for number in sorted(actions):
        program = actions[number]
        if branches[-1][0] == number:
            branches.pop()
        if not branches or branches[-1][1] is not program:
            branches.append((number, program))
        branches.append((number + 1, default))
    merged: list[tuple[int, Program]] = []
    for number, program in branches:
        if merged and merged[-1][0] == number:
            merged[-1] = (number, program)
        elif not merged or merged[-1][1] is not program:
            merged.append((number, program))
        if len(merged) > 1 and merged[-1][1] is merged[-2][1]:
            merged.pop()
    return _search(merged)


def _by_interface(machine: str, actions: dict[str, dict[int, Program]], default: Program, foreign: Program) -> Program:
    """The whole program; an interface that is not in the table gets ``foreign``."""
    whole: Program = []
    for audit, name, with_bit in reversed(_MACHINES[machine]):
        table = dict(actions[name])
        if with_bit:
            table |= {number | _X32_BIT: program for number, program in actions[with_bit].items()}
        body = [(_LOAD, 0, 0, 0), *_by_number(table, default)]
        rest = whole or foreign
        whole = [(_JUMP_EQ, 1, 0, audit), (_JUMP, 0, 0, len(body)), *body, *rest]
    return [(_LOAD, 0, 0, 4), *whole]


def _interfaces(machine: str) -> list[str]:
    return [name for row in _MACHINES[machine] for name in row[1:] if name]


def interfaces(machine: str = "") -> list[tuple[int, str]]:
    """The interfaces of a machine with the kernel's name of each; x32 shares that of x86_64."""
    machine = machine or os.uname().machine
    return [(audit, name) for audit, *names in _MACHINES.get(machine, ()) for name in reversed(names) if name]


def _pack(program: Program) -> bytes:
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


@cache
def default_profile(capabilities: int, machine: str = "") -> bytes:
    """Docker's default profile for a process with these capabilities; empty where the machine is unknown.

    Refused calls fail with EPERM, clone3 with ENOSYS so that the C library falls back to clone.
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    allow, refuse = _return(ALLOW), _errno(EPERM)
    held = {name for name in _WITH_CAPABILITY if capabilities & mask((name,))}
    extra = {call for name in held for call in _WITH_CAPABILITY[name].split()}
    conditional = {call for calls in _WITH_CAPABILITY.values() for call in calls.split()} | set(_SPECIAL)
    low, _ = _argument(0)
    clone = [*low, (_AND, 0, 0, _NEW_NAMESPACES), (_JUMP_EQ, 0, 1, 0), *allow, *refuse]
    special = {
        "socket": _one_of(0, (_AF_VSOCK,), refuse, allow),
        "personality": _one_of(0, _PERSONALITIES, allow, refuse),
        "clone": allow if "clone" in extra else clone,
        "clone3": allow if "clone3" in extra else _errno(ENOSYS),
    }
    actions: dict[str, dict[int, Program]] = {}
    for interface in _interfaces(machine):
        table = actions[interface] = {}
        for call, number in numbers(interface).items():
            if call in special:
                table[number] = special[call]
            elif call in extra or call not in conditional:
                table[number] = allow
    return _pack(_by_interface(machine, actions, refuse, refuse))


@cache
def notify_program(machine: str = "") -> bytes:
    """Hand changes of owner, the ids of processes and the making of devices to a listener, and allow all else."""
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    return _allowing_others(machine, _faking(machine, _return(NOTIFY), (*CHOWN, *SET_IDS, *GET_IDS)))


@cache
def groups_program(machine: str = "") -> bytes:
    """Hand the question for the supplementary groups to a listener, and allow all else."""
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    actions: dict[str, dict[int, Program]] = {}
    for interface in _interfaces(machine):
        known = numbers(interface)
        actions[interface] = {known[call]: _return(NOTIFY) for call in _GET_GROUPS if call in known}
    return _allowing_others(machine, actions)


@cache
def succeed_program(machine: str = "") -> bytes:
    """Let what changes something succeed without doing anything: where the kernel has no listeners."""
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    return _allowing_others(machine, _faking(machine, _errno(0), (*CHOWN, *SET_IDS)))


@cache
def proot_listener_program(owners: bool, machine: str = "") -> bytes:
    """Hand PROOT_CALLS to a listener and, with ``owners``, changes of owner, the making of devices and the question
    for the supplementary groups, which PRoot leaves to be the host's.
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    allow, notify = _return(ALLOW), _return(NOTIFY)
    low, _ = _argument(1)
    kinds = [(_JUMP_EQ, 2, 0, _SOCK_STREAM), (_JUMP_EQ, 1, 0, _SOCK_DGRAM)]
    internet = [*low, (_AND, 0, 0, 0xF), *kinds, *allow, *notify]
    actions = (
        _faking(machine, notify, (*CHOWN, *_GET_GROUPS)) if owners else {name: {} for name in _interfaces(machine)}
    )
    for interface, table in actions.items():
        known = numbers(interface)
        table |= {known[call]: notify for call in PROOT_CALLS}
        table[known["socket"]] = _one_of(0, (_AF_INET, _AF_INET6), internet, allow)
    return _allowing_others(machine, actions)


@cache
def proot_program(machine: str = "") -> bytes:
    """Answer that there is no such call where PRoot would let a path through as it is, and where we know no such call.

    PRoot's own filter is refused, too: without it PRoot sees every call before the other filters do, so that a listener
    gets the paths that PRoot has translated.
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        return b""
    allow, unknown = _return(ALLOW), _errno(ENOSYS)
    prctl = _one_of(0, (_PR_SET_SECCOMP,), _errno(EINVAL), allow)
    actions: dict[str, dict[int, Program]] = {}
    for interface in _interfaces(machine):
        known = numbers(interface)
        table = actions[interface] = dict.fromkeys(known.values(), allow)
        table |= {known[call]: unknown for call in _UNKNOWN_TO_PROOT.split() if call in known}
        table[known["prctl"]] = prctl
    return _pack(_by_interface(machine, actions, unknown, unknown))


def _allowing_others(machine: str, actions: dict[str, dict[int, Program]]) -> bytes:
    allow = _return(ALLOW)
    return _pack(_by_interface(machine, actions, allow, allow))


def _faking(machine: str, action: Program, calls: tuple[str, ...]) -> dict[str, dict[int, Program]]:
    """That action for these calls, and for the making of devices."""
    allow = _return(ALLOW)
    actions: dict[str, dict[int, Program]] = {}
    for interface in _interfaces(machine):
        known = numbers(interface)
        table = actions[interface] = {known[call]: action for call in calls if call in known}
        for call, index in (("mknod", 1), ("mknodat", 2)):
            if call in known:
                low, _ = _argument(index)
                kinds = [(_JUMP_EQ, 2, 0, 0o020000), (_JUMP_EQ, 1, 0, 0o060000)]
                table[known[call]] = [*low, (_AND, 0, 0, 0o170000), *kinds, *allow, *action]
    return actions


_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE = 1 << 5


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))


def install(program: bytes, *, listen: bool = False) -> int:
    """Put a filter on this thread for good; with ``listen`` the descriptor of its listener comes back.

    Needs CAP_SYS_ADMIN in the user namespace, or no_new_privs.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _Filter(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    number = syscalls.number("seccomp")
    if not listen:
        return syscalls.syscall(number, _SET_MODE_FILTER, 0, ctypes.byref(described))
    try:
        return syscalls.syscall(number, _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, ctypes.byref(described))
    except OSError:
        return syscalls.syscall(number, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(described))

"""The filters, run as the kernel runs them, for every interface of every machine."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from dockermagic.sandbox import seccomp, syscalls
from dockermagic.sandbox.capabilities import DEFAULT, mask
from dockermagic.sandbox.syscall_numbers import numbers

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "x32": 0xC000003E, "aarch64": 0xC00000B7, "arm": 0x40000028}
INTERFACES = [("x86_64", "x86_64"), ("x86_64", "i386"), ("x86_64", "x32"), ("aarch64", "aarch64"), ("aarch64", "arm")]
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
BIT = {"x32": 1 << 30}


def decide(program: bytes, interface: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the filter returns; a jump out of the program is an IndexError."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number | BIT.get(interface, 0), AUDIT[interface], 0, *padded)
    code = list(struct.iter_unpack("HBBI", program))
    position = accumulator = 0
    while True:
        operation, true, false, value = code[position]
        position += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x05:
                position += value
            case 0x15:
                position += true if accumulator == value else false
            case 0x35:
                position += true if accumulator >= value else false
            case 0x54:
                accumulator &= value
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


REFUSED = "mount umount2 unshare setns bpf perf_event_open kexec_load init_module reboot swapon io_uring_setup keyctl"
ALLOWED = "read write openat execve clone futex chown setuid mknodat ptrace chroot seccomp capset"


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
def test_default_profile(machine: str, interface: str) -> None:
    """Every number up to 600: allowed if Docker allows it, and no other."""
    program = seccomp.default_profile(DEFAULT, machine)
    known = numbers(interface)
    by_number = {number: name for name, number in known.items()}
    special = {"socket", "personality", "clone", "clone3"}
    for number in range(600):
        name = by_number.get(number, "")
        if name not in special:
            assert decide(program, interface, number) in (ALLOW, EPERM)
            assert name or decide(program, interface, number) == EPERM
    for name in REFUSED.split():
        assert name not in known or decide(program, interface, known[name]) == EPERM
    for name in ALLOWED.split():
        assert name not in known or decide(program, interface, known[name]) == ALLOW


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
@pytest.mark.parametrize(
    ("call", "arguments", "result"),
    [
        ("socket", (2,), ALLOW),
        ("socket", (40,), EPERM),
        ("socket", (40 | 1 << 32,), ALLOW),
        ("personality", (0,), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x20008,), ALLOW),
        ("personality", (1,), EPERM),
        ("personality", (1 << 32,), EPERM),
        ("clone", (17,), ALLOW),
        ("clone", (0x10000000 | 17,), EPERM),
        ("clone", (0x00020000,), EPERM),
        ("clone3", (), ENOSYS),
    ],
)
def test_arguments(machine: str, interface: str, call: str, arguments: tuple[int, ...], result: int) -> None:
    assert decide(seccomp.default_profile(DEFAULT, machine), interface, numbers(interface)[call], arguments) == result


@pytest.mark.parametrize(
    ("capability", "calls"),
    [
        ("SYS_ADMIN", "mount unshare clone3 setns"),
        ("SYS_TIME", "clock_settime settimeofday"),
        ("SYS_BOOT", "reboot"),
        ("SYSLOG", "syslog"),
        ("SYS_NICE", "mbind"),
    ],
)
def test_capabilities_open_calls(capability: str, calls: str) -> None:
    with_it = seccomp.default_profile(DEFAULT | mask((capability,)), "x86_64")
    for call in calls.split():
        assert decide(with_it, "x86_64", numbers("x86_64")[call]) == ALLOW


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
def test_another_machine_is_refused(machine: str, interface: str) -> None:
    program = bytearray(seccomp.default_profile(DEFAULT, machine))
    other = "arm" if machine == "x86_64" else "i386"

    assert decide(bytes(program), other, 1) == EPERM


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
def test_what_is_handed_over(machine: str, interface: str) -> None:
    program, silent = seccomp.notify_program(machine), seccomp.succeed_program(machine)
    known = numbers(interface)
    for call in (*seccomp.CHOWN, *seccomp.SET_IDS):
        if call in known:
            assert decide(program, interface, known[call]) == seccomp.NOTIFY
            assert decide(silent, interface, known[call]) == 0x50000
    for call in ("read", "openat", "execve", "fchmod"):
        assert decide(program, interface, known[call]) == ALLOW
    place = 2
    for mode, result in (
        (0o020644, seccomp.NOTIFY),
        (0o060600, seccomp.NOTIFY),
        (0o010644, ALLOW),
        (0o100644, ALLOW),
        (0, ALLOW),
    ):
        assert decide(program, interface, known["mknodat"], (0,) * place + (mode,)) == result


def test_unknown_machines_have_no_filter() -> None:
    assert seccomp.default_profile(DEFAULT, "vax") == seccomp.notify_program("vax") == b""


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
def test_what_proot_does_not_know_is_not_there(machine: str, interface: str) -> None:
    """On every interface; what our table does not know, newer calls among them, is not there either."""
    program, known = seccomp.proot_program(machine), numbers(interface)

    for call in ("statx", "openat2", "faccessat2", "clone3", "execveat", "seccomp"):
        assert decide(program, interface, known[call]) == ENOSYS
    assert decide(program, interface, 425) == ENOSYS  # io_uring_setup, which could open paths
    assert decide(program, interface, known["openat"]) == ALLOW
    assert decide(program, interface, known["prctl"], (22,)) == 0x50016  # EINVAL to PRoot's own filter
    assert decide(program, interface, known["prctl"], (38,)) == ALLOW


@pytest.mark.parametrize(("machine", "interface"), INTERFACES)
def test_what_is_handed_over_behind_proot(machine: str, interface: str) -> None:
    program, known = seccomp.proot_listener_program(True, machine), numbers(interface)

    assert decide(program, interface, known["fchownat"]) == 0x7FC00000
    assert decide(program, interface, known["mknodat"], (0, 0, 0o020600)) == 0x7FC00000
    assert decide(program, interface, known["mknodat"], (0, 0, 0o100600)) == ALLOW
    assert decide(program, interface, known["setuid"]) == ALLOW
    for call in ("bind", "connect", "getsockname", "uname", "execve"):
        assert decide(program, interface, known[call]) == 0x7FC00000
    sockets = {(2, 1): True, (10, 0o2004002): True, (1, 1): False, (16, 3): False, (2, 3): False}
    for arguments, is_ours in sockets.items():
        assert (decide(program, interface, known["socket"], arguments) == 0x7FC00000) == is_ours

    as_root = seccomp.proot_listener_program(False, machine)
    assert decide(as_root, interface, known["fchownat"]) == ALLOW
    assert decide(as_root, interface, known["bind"]) == 0x7FC00000


# As the kernel's header has them: what decides most, and what this package calls by number itself.
OF_AARCH64 = """
openat 56 fchownat 54 fchown 55 mknodat 33 setresuid 147 clone 220 prctl 167 statx 291 clone3 435 openat2 437
faccessat2 439 fchmodat2 452 execve 221 socket 198 bind 200 connect 203 getsockname 204 uname 160 getgroups 158
setgroups 159 ptrace 117 newfstatat 79 renameat 38 renameat2 276 unshare 97 setns 268 mount 40 umount2 39
pivot_root 41 capget 90 capset 91 keyctl 219 seccomp 277
"""
LEFT_BEHIND = """
open creat link unlink symlink readlink rename mkdir rmdir mknod chmod chown lchown stat lstat access utimes futimesat
dup2 pipe poll select epoll_create epoll_wait inotify_init eventfd signalfd fork vfork getdents getpgrp pause alarm time
"""


def test_numbers_of_aarch64() -> None:
    known = numbers("aarch64") | syscalls._NUMBERS["aarch64"]
    words = OF_AARCH64.split()

    assert [(call, known[call]) for call in words[::2]] == list(zip(words[::2], map(int, words[1::2]), strict=True))
    assert not known.keys() & LEFT_BEHIND.split()


def in_header(path: Path) -> dict[str, int]:
    """The numbers of a header; asm-generic has some under another name for machines with 32 bits."""
    found: dict[str, int] = {}
    for name, value in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+([^\s(]+|\(.*\))", path.read_text(), re.M):
        number = re.search(r"\d+(?=\)?$)", value) if "NR3264" not in value else None
        known = int(number[0]) if number else found.get(value.removeprefix("__NR3264_"))
        if known is not None and name != "syscalls":  # how many there are
            found.setdefault(name, known)
    return found


HEADERS = {
    "aarch64": "asm-generic/unistd.h",
    "x86_64": "x86_64-linux-gnu/asm/unistd_64.h",
    "i386": "x86_64-linux-gnu/asm/unistd_32.h",
    "x32": "x86_64-linux-gnu/asm/unistd_x32.h",
}
INSTALLED = [(name, path) for name, pattern in HEADERS.items() for path in Path("/usr/include").glob(pattern)]


@pytest.mark.parametrize(("interface", "header"), INSTALLED or [pytest.param("", Path(), marks=pytest.mark.skip)])
def test_numbers_are_those_of_the_kernels_headers(interface: str, header: Path) -> None:
    """As far as they go: they may be older than our table. Nothing is in it that they could know and do not."""
    known, real = numbers(interface) | syscalls._NUMBERS.get(interface, {}), in_header(header)
    newest = max(number for number in real.values() if number < 512)  # x32 has some from there on

    assert len(real) > 300
    assert {call: number for call, number in known.items() if real.get(call, number) != number} == {}
    assert {call for call, number in known.items() if number <= newest} - real.keys() <= {"uretprobe"}

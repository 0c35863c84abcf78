"""Words of the language with a grammar of their own: ports, signals, modes."""

from __future__ import annotations

import re

from dockermagic.errors import DockerfileSyntaxError

__all__ = [
    "apply_chmod",
    "check_signal",
    "expose_ports",
    "is_http_url",
    "parse_chmod",
    "summary",
]

SIGNALS = [
    "ABRT",
    "ALRM",
    "BUS",
    "CHLD",
    "CLD",
    "CONT",
    "FPE",
    "HUP",
    "ILL",
    "INT",
    "IO",
    "IOT",
    "KILL",
    "PIPE",
    "POLL",
    "PROF",
    "PWR",
    "QUIT",
    "SEGV",
    "STKFLT",
    "STOP",
    "SYS",
    "TERM",
    "TRAP",
    "TSTP",
    "TTIN",
    "TTOU",
    "UNUSED",
    "URG",
    "USR1",
    "USR2",
    "VTALRM",
    "WINCH",
    "XCPU",
    "XFSZ",
    "RTMIN",
    "RTMAX",
]


def expose_ports(spec: str) -> list[str]:
    """``[ip:][host:]port[-end][/proto]`` as the ports of the image config; address and host port have no meaning there.

    Raises :class:`DockerfileSyntaxError` in the reference's words.
    """
    rest, _, protocol = spec.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in ("tcp", "udp", "sctp"):
        raise DockerfileSyntaxError(f"invalid proto: {protocol}", hint="EXPOSE knows tcp, udp and sctp.")
    container = rest.rpartition(":")[2]
    if not container:
        raise DockerfileSyntaxError(f"no port specified: {spec}<empty>", hint="Write the port's number: EXPOSE 8080")
    first, dash, last = container.partition("-")
    numbers = [first, last] if dash else [first]
    if not all(re.fullmatch(r"\d+", number) and int(number) <= 65535 for number in numbers) or (
        dash and int(first) > int(last)
    ):
        raise DockerfileSyntaxError(
            f"invalid containerPort: {container}", hint="A port is a number up to 65535, or a range such as 8000-8010."
        )
    return [f"{number}/{protocol}" for number in range(int(first), int(last or first) + 1)]


def check_signal(name: str) -> None:
    """Raises :class:`DockerfileSyntaxError` unless it is a signal's name (with or without SIG) or number."""
    text = name.upper().removeprefix("SIG")
    known = text in SIGNALS or re.fullmatch(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])", text)
    if not known and not (re.fullmatch(r"\d+", name) and int(name) != 0):
        raise DockerfileSyntaxError(f"invalid signal: {name}", hint="For example SIGTERM, SIGINT, SIGQUIT, or 9.")


def summary(content: str) -> str:
    """The first line of a here-document, for progress."""
    lines = content.split("\n")
    first = lines[0].strip()
    return first + ("..." if len([line for line in lines if line.strip()]) > 1 else "")


def is_http_url(text: str) -> bool:
    """Whether ADD fetches it by HTTP."""
    return text.startswith(("http://", "https://"))


def parse_chmod(text: str) -> None:
    """Raises :class:`DockerfileSyntaxError` unless it is an octal mode up to 7777 or a symbolic one."""
    if re.fullmatch(r"[0-7]+", text):
        if int(text, 8) <= 0o7777:
            return
    elif text and all(clause and _clause(clause) for clause in text.split(",")):
        return
    raise DockerfileSyntaxError(
        f'invalid chmod parameter: "{text}". it should be octal string and between 0 and 07777',
        hint="For example --chmod=755 or --chmod=u=rwX,go=rX.",
    )


def _clause(clause: str) -> bool:
    match = re.match(r"[ugoa]*", clause)
    rest = clause[match.end() :] if match else clause
    return bool(rest) and re.fullmatch(r"(?:[-+=](?:[rwxXst]*|[ugo]))+", rest) is not None


def apply_chmod(text: str, mode: int, is_directory: bool) -> int:
    """The permission bits after ``chmod`` (no umask)."""
    if re.fullmatch(r"[0-7]+", text):
        return int(text, 8)
    mode &= 0o7777
    for clause in text.split(","):
        who = clause[: len(clause) - len(clause.lstrip("ugoa"))]
        targets = set("ugo") if not who or "a" in who else set(who)
        for operator, what in re.findall(r"([-+=])([ugo]|[rwxXst]*)", clause[len(who) :]):
            mode = _apply(mode, targets, operator, what, is_directory)
    return mode


def _apply(mode: int, targets: set[str], operator: str, what: str, is_directory: bool) -> int:
    shift = {"u": 6, "g": 3, "o": 0}
    if what in shift and what:
        bits = (mode >> shift[what]) & 7
    else:
        bits = sum({"r": 4, "w": 2, "x": 1}.get(letter, 0) for letter in set(what))
        if "X" in what and (is_directory or mode & 0o111):
            bits |= 1
    special = 0
    if "s" in what:
        special |= (0o4000 if "u" in targets else 0) | (0o2000 if "g" in targets else 0)
    if "t" in what:
        special |= 0o1000
    value = special
    for target in targets:
        value |= bits << shift[target]
    if operator == "+":
        return mode | value
    if operator == "-":
        return mode & ~value
    for target in targets:
        mode &= ~(7 << shift[target])
    if "u" in targets:
        mode &= ~0o4000
    if "g" in targets:
        mode &= ~0o2000
    if targets == set("ugo"):
        mode &= ~0o1000
    return mode | value

"""The files that tell a process its name and its network: made for the run, and in no layer."""

from __future__ import annotations

from pathlib import Path

from dockermagic.sandbox.base import Process

__all__ = ["network_files"]


def network_files(process: Process) -> list[tuple[str, bytes]]:
    """Path and content of /etc/hosts, /etc/hostname and /etc/resolv.conf, the last as the host has it."""
    name = process.hostname
    hosts = [
        "127.0.0.1\tlocalhost" + (f" {name}" if name else ""),
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    hosts += [f"{address}\t{host}" for host, address in process.extra_hosts]
    try:
        resolver = Path("/etc/resolv.conf").read_bytes()
    except OSError:
        resolver = b""
    return [
        ("/etc/hosts", "\n".join(hosts).encode() + b"\n"),
        ("/etc/hostname", name.encode() + b"\n"),
        ("/etc/resolv.conf", resolver),
    ]

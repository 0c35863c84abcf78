"""Base images made on this machine, for where no registry is at hand: busybox and Debian.

busybox is the host's static busybox with its applets as hard links; Debian is made by mmdebstrap from the host's own
apt sources. Nothing here touches the store: :func:`write_busybox` writes one layer's tar, :func:`fill_debian` fills an
empty directory inside the sandbox's namespaces, and the engine makes an image of either with what :class:`Base` says.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import struct
import subprocess
import sys
import tarfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from dockermagic.errors import ImageNotFoundError, RunFailedError
from dockermagic.hostfacts import (
    DEBIAN_KEYRING,
    choose_sources,
    host_apt_settings,
    host_certificates,
    host_codename,
    read_apt_sources,
    render_deb822,
)
from dockermagic.values import dataclass

__all__ = ["Base", "fill_debian", "find_base", "write_busybox"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEBIAN_TAGS = {
    "latest": "stable",
    "10": "buster",
    "11": "bullseye",
    "12": "bookworm",
    "13": "trixie",
    "14": "forky",
}
_DEBIAN_SUITES = {"buster", "bullseye", "bookworm", "trixie", "forky", "sid", "unstable"} | {
    "stable",
    "oldstable",
    "testing",
}
_DEVICES = "null zero full random urandom tty"


@dataclass(frozen=True, slots=True)
class Base:
    """What can be made here under a name, and the facts of its image config.

    ``kind`` is "busybox" or "debian". ``suite`` and ``slim`` are for Debian only; a slim base has no manual pages,
    documentation and translations, and keeps dpkg from unpacking them.
    """

    kind: str
    reference: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    created_by: str
    suite: str = ""
    slim: bool = False


def find_base(name: str) -> Base | None:
    """The base that can be made for a familiar image name ("busybox", "debian:12", "debian:trixie-slim"), or None."""
    repository, _, tag = name.partition(":")
    tag = tag or "latest"
    path = (("PATH", _PATH),)
    if repository == "busybox" and tag in ("latest", "stable"):
        return Base("busybox", f"busybox:{tag}", ("sh",), path, "BusyBox rootfs of the host's static busybox")
    if repository == "debian":
        slim = tag.endswith("-slim")
        plain = tag.removesuffix("-slim")
        suite = _DEBIAN_TAGS.get(plain, plain)
        if suite in _DEBIAN_SUITES:
            created_by = f"mmdebstrap --variant=minbase {suite}"
            return Base("debian", f"debian:{tag}", ("bash",), path, created_by, suite, slim)
    return None


# --- busybox ----------------------------------------------------------------------------------------------------------

_BUSYBOX_PLACES = ("busybox", "busybox.static", "/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static")
_BUSYBOX_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "sys": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "var": 0o755,
    "var/spool": 0o755,
    "var/spool/mail": 0o755,
    "var/www": 0o755,
}
_BUSYBOX_FILES = {
    "etc/passwd": (
        0o644,
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "bin:x:2:2:bin:/bin:/bin/false\n"
        "sys:x:3:3:sys:/dev:/bin/false\n"
        "mail:x:8:8:mail:/var/spool/mail:/bin/false\n"
        "www-data:x:33:33:www-data:/var/www:/bin/false\n"
        "nobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    "etc/group": (
        0o644,
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nwheel:x:10:root\n"
        "www-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    ),
    "etc/shadow": (
        0o640,
        "".join(f"{name}:*:::::::\n" for name in ("root", "daemon", "bin", "sys", "mail", "www-data", "nobody")),
    ),
    "etc/nsswitch.conf": (0o644, "passwd: files\ngroup: files\nhosts: files dns\n"),
    "etc/network/if-up.d/.keep": (0o644, ""),
}


def find_busybox() -> Path:
    """A static busybox that this host can run; ImageNotFoundError says what to install where there is none."""
    if sys.platform != "linux":
        raise ImageNotFoundError(
            f"The busybox base is made from a Linux program, and this is {platform.system()}.",
            hint="Load one instead: 'dockermagic load -i busybox.tar'.",
        )
    dynamic = None
    for place in _BUSYBOX_PLACES:
        found = shutil.which(place)
        if not found:
            continue
        if _is_static(Path(found)):
            return Path(found)
        dynamic = found
    message = f"{dynamic} is not statically linked." if dynamic else "This host has no busybox."
    raise ImageNotFoundError(
        f"The busybox base cannot be made: {message}", hint="Install one: 'apt-get install busybox-static'."
    )


def _is_static(path: Path) -> bool:
    """Whether an ELF file names no interpreter (no program header of type PT_INTERP)."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
        offset = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)[0]
        size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from(order + "I", table, index * size)[0] != 3 for index in range(count))


def write_busybox(out: IO[bytes], *, busybox: Path | None = None, epoch: int = 0) -> tuple[str, ...]:
    """Write the busybox root file system as one uncompressed changeset tar; notes are returned.

    The bytes depend on the busybox program and ``epoch`` (the time of every file) alone.
    """
    program = busybox or find_busybox()
    listed = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    applets = sorted({name for name in listed if "/" not in name} - {"busybox"})
    banner = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout.splitlines()[0]

    entries: dict[str, tarfile.TarInfo] = {}
    contents: dict[str, bytes] = {}

    def entry(name: str, mode: int, kind: bytes, link: str = "") -> tarfile.TarInfo:
        info = entries[name] = tarfile.TarInfo(name)
        info.mode, info.type, info.linkname, info.mtime = mode, kind, link, epoch
        info.uname = info.gname = ""
        return info

    for name, mode in _BUSYBOX_DIRECTORIES.items():
        entry(name, mode, tarfile.DIRTYPE)
    for name, (mode, text) in _BUSYBOX_FILES.items():
        for parent in reversed(Path(name).parents[:-1]):
            if parent.as_posix() not in entries:
                entry(parent.as_posix(), 0o755, tarfile.DIRTYPE)
        contents[name] = text.encode()
        entry(name, mode, tarfile.REGTYPE).size = len(contents[name])
    # The program itself comes under the first name in the sort order: every hard link then has its target before it.
    first, *others = sorted({"busybox", *applets})
    size = program.stat().st_size
    entry(f"bin/{first}", 0o755, tarfile.REGTYPE).size = size
    for name in others:
        entry(f"bin/{name}", 0o755, tarfile.LNKTYPE, f"bin/{first}")
    entry("usr/bin/env", 0o777, tarfile.SYMTYPE, "../../bin/env")

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(entries):
            info = entries[name]
            if name == f"bin/{first}":
                with program.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info, io.BytesIO(contents[name]) if name in contents else None)
    return (f"busybox: {banner.split(' multi-call')[0]} of this host ({program}), {len(applets)} applets",)


# --- Debian -----------------------------------------------------------------------------------------------------------


def fill_debian(
    root: str,
    *,
    suite: str,
    slim: bool = False,
    environment: Mapping[str, str] | None = None,
    host: str = "/",
    log: int = 2,
) -> dict[str, Any]:
    """Fill the empty directory ``root`` with a minimal Debian, as root of the namespaces it is called in.

    Works with all ids, a range of them, or a single one with faked privilege. ``environment`` is the caller's, for its
    proxy variables. mmdebstrap's lines go to the file descriptor ``log``. Returns ``{"notes": [...]}``. Raises
    ImageNotFoundError where mmdebstrap is missing, RunFailedError with the tail of its output where it fails.
    """
    program = shutil.which("mmdebstrap")
    if not program:
        raise ImageNotFoundError(
            f"The base debian:{suite} cannot be made: this host has no mmdebstrap.",
            hint="Install it: 'apt-get install mmdebstrap'. Or load an image: 'dockermagic load -i FILE'.",
        )
    sources, notes = choose_sources(suite, read_apt_sources(Path(host)), host_codename(Path(host)))
    settings = host_apt_settings()
    command = debian_command(program, suite, root, slim=slim, settings=settings)
    text = render_deb822(sources)
    _run(command, root, text, _environment(environment or {}), log)
    extra = _finish(Path(root), text, settings, Path(host), [source.signed_by for source in sources], slim)
    return {"notes": [*notes, *extra]}


def debian_command(
    program: str, suite: str, root: str, *, slim: bool = False, settings: Mapping[str, str] | None = None
) -> list[str]:
    """The mmdebstrap command that fills ``root``; the sources come on its standard input.

    It runs as root of whatever user namespace it is started in. Devices are bound one by one instead of made or mounted
    as a whole: neither mknod nor a devpts of group 5 is possible without a range of ids.
    """
    bind = f'for f in {_DEVICES}; do [ -e "$1/dev/$f" ] || : > "$1/dev/$f"; mount --bind "/dev/$f" "$1/dev/$f"; done'
    unbind = f'for f in {_DEVICES}; do umount "$1/dev/$f"; rm -f "$1/dev/$f"; done'
    command = [
        program,
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=chroot/mount/dev,chroot/mount/sys",
        f"--extract-hook={bind}",
        f"--customize-hook={unbind}",
        '--aptopt=APT::Sandbox::User "root"',
    ]
    command += [f'--aptopt={name} "{value}"' for name, value in (settings or {}).items()]
    if slim:
        command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _SLIM_EXCLUDES]
        command.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    return [*command, suite, root, "-"]


_SLIM_EXCLUDES = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/groff/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
)


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in given.items() if name.lower().endswith("_proxy")}
    epoch = given.get("SOURCE_DATE_EPOCH")
    if epoch:
        kept["SOURCE_DATE_EPOCH"] = epoch
    return {**kept, "PATH": _PATH, "HOME": "/", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def _run(command: list[str], root: str, text: str, environment: dict[str, str], log: int) -> None:
    from dockermagic.sandbox.hosted import run_hosted

    tail: deque[str] = deque(maxlen=15)
    rest = b""

    def forward(piece: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith((b"I: skipping ", b"I: running --")):
                os.write(log, line + b"\n")
                tail.append(line.decode(errors="replace"))

    code = run_hosted(command, root=Path(root), environment=environment, text=text, output=forward)
    if code:
        raise RunFailedError(
            f"mmdebstrap ended with exit code {code}.",
            command=" ".join(command),
            process_exit_code=code,
            log_tail=tuple(tail),
            hint="Its last lines say why; a mirror that cannot be reached is the usual reason.",
        )


_APT_CONF = """\
// Written by dockermagic: keep layers small.
Acquire::Languages "none";
Acquire::GzipIndexes "true";
APT::AutoRemove::SuggestsImportant "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };
"""


_TRACES = (
    "etc/.pwd.lock",
    "etc/apt/apt.conf.d/00mmdebstrap",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/hostname",
    "etc/resolv.conf",
    "var/cache/apt/archives/lock",
    "var/lib/apt/lists/lock",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
)


def _finish(
    root: Path, sources: str, settings: Mapping[str, str], host: Path, keyrings: list[str], slim: bool
) -> list[str]:
    """Leave what belongs in an image: no traces of the making, the host's sources, settings and certificates."""
    notes = []
    for name in _TRACES:
        (root / name).unlink(missing_ok=True)
    for path in [*root.glob("etc/apt/sources.list.d/*"), *root.glob("dev/*"), *root.glob("run/*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (root / "run/lock").mkdir(mode=0o755)
    (root / "run/lock").chmod(0o1777)
    _write(root, "etc/apt/sources.list.d/debian.sources", sources)
    _write(root, "etc/apt/apt.conf.d/docker-image", _APT_CONF)
    _write(root, "etc/dpkg/dpkg.cfg.d/docker-image", "force-unsafe-io\n")
    _write(root, "usr/sbin/policy-rc.d", "#!/bin/sh\n# No service starts while an image is built.\nexit 101\n", 0o755)
    excludes = root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap"
    if excludes.exists():
        excludes.rename(excludes.with_name("docker-slim"))
    if settings:
        lines = "".join(f'{name} "{value}";\n' for name, value in settings.items())
        _write(root, "etc/apt/apt.conf.d/docker-host", lines)
        notes.append(f"apt: settings taken over from this host ({', '.join(settings)})")
    for keyring in keyrings:
        if keyring.startswith("/") and keyring != DEBIAN_KEYRING and not (root / keyring[1:]).exists():
            _write(root, keyring[1:], (host / keyring[1:]).read_bytes())
    certificates = host_certificates(host)
    for name, content in certificates.items():
        if not (root / name).exists():
            _write(root, name, content)
    if certificates:
        count = len(certificates) - 1
        own = f", {count} of them this host's own" if count else ""
        notes.append(f"certificates: the CA bundle taken over from this host{own}")
    return notes


def _write(root: Path, name: str, content: str | bytes, mode: int = 0o644) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)

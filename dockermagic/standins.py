"""Stand-ins: images under familiar names, made from Debian's packages where no registry can be reached.

A stand-in is a short Dockerfile on a base that this machine can make (:mod:`dockermagic.bases`). It is there so that a
lesson runs, not to be the image whose name it has: its label, its history and what is printed all say so. Pure values;
the engine builds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dockermagic.values import dataclass, field

__all__ = ["LABEL", "Standin", "find_standin"]

LABEL = "org.dockermagic.base"

_RELEASES = r"(?:bullseye|bookworm|trixie|buster)"
_PYTHON = re.compile(rf"latest|slim|alpine|{_RELEASES}|(?:3(?:\.\d+){{0,2}})(?:-(?:slim|alpine[\d.]*|{_RELEASES}))*")
_ALPINE = re.compile(r"latest|edge|3(?:\.\d+){0,2}")
_UBUNTU = re.compile(r"latest|rolling|\d\d\.\d\d|bionic|focal|jammy|noble|plucky|questing|resolute")

# The Python of each release of Debian.
_PYTHONS = {"bullseye": "3.9", "bookworm": "3.11", "trixie": "3.13"}

# Without the mark of an externally managed environment pip installs beside Debian's own packages, as it does in the
# image whose name this bears.
_INSTALL_PYTHON = """\
RUN apt-get update -q \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \\
      python3-pip python3-venv python-is-python3 \\
 && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED
"""

_NO_APK = """\
COPY --chmod=755 <<"END" /sbin/apk
#!/bin/sh
echo "apk: this is a stand-in for {name}, made from Debian's packages. It has no apk{other}." >&2
exit 127
END
"""


@dataclass(frozen=True, slots=True)
class Standin:
    """The recipe of a stand-in: ``base`` is the base that it is made on, ``text`` its Dockerfile.

    The Dockerfile copies ``files`` (name to content) from its context. ``notes`` say how it differs.
    """

    reference: str
    base: str
    text: str
    notes: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)


def find_standin(name: str, suite: str, pip: Mapping[str, str], certificates: bytes = b"") -> Standin | None:
    """The stand-in for a familiar image name ("python:3.9", "python:alpine", "ubuntu", "alpine"), or None.

    ``suite`` is the Debian that it is made of, ``pip`` the settings that pip needs on this network, ``certificates``
    the host's CA bundle, for images whose base has none.
    """
    repository, _, tag = name.partition(":")
    tag = tag or "latest"
    reference = f"{repository}:{tag}"
    debian = f"debian:{suite}-slim"
    if repository == "python" and _PYTHON.fullmatch(tag):
        version = f"Python {_PYTHONS[suite]}" if suite in _PYTHONS else "the Python"
        notes: tuple[str, ...] = (f"it holds {version} of Debian {suite}, with pip",)
        settings = "".join(f"{key} = {value}\n" for key, value in {"root-user-action": "ignore", **pip}.items())
        # Everything but the label is the same for every tag, so that all of them share their layers.
        text = f"FROM {debian}\n{_INSTALL_PYTHON}COPY pip.conf /etc/pip.conf\nENV LANG=C.UTF-8\n"
        if "alpine" in tag:
            text += _NO_APK.format(name=reference, other="; apt-get is there")
            notes += ("it has apt-get instead of apk, and bash",)
        text += 'CMD ["python3"]\n'
        return Standin(reference, debian, text, notes, {"pip.conf": f"[global]\n{settings}".encode()})
    if repository == "ubuntu" and _UBUNTU.fullmatch(tag):
        text = f'FROM {debian}\nCMD ["/bin/bash"]\n'
        return Standin(reference, debian, text, (f"it is Debian {suite}: apt-get installs Debian's packages",))
    if repository == "alpine" and _ALPINE.fullmatch(tag):
        text = "FROM busybox\n" + _NO_APK.format(name=reference, other=" and can install nothing")
        files = {"ca-certificates.crt": certificates} if certificates else {}
        if files:
            text += "COPY ca-certificates.crt /etc/ssl/certs/\n"
        text += 'CMD ["/bin/sh"]\n'
        return Standin(reference, "busybox", text, ("it is this machine's busybox, without apk",), files)
    return None

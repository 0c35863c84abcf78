"""``--ca FILE``: what a RUN trusts, and the build itself where it fetches; in no layer, history or key."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic.errors import UsageError
from dockermagic.oci.rooted import follow, link_below
from dockermagic.sandbox.base import Mount
from dockermagic.values import replace

if TYPE_CHECKING:
    from dockermagic.build.request import BuildRequest
    from dockermagic.build.workshop import Workshop
    from dockermagic.sandbox.base import Rootfs

__all__ = ["BUNDLES", "VARIABLES", "look", "trust_mounts", "with_certificates"]

PLACE = "/dev/dockermagic-ca.pem"
"""In the memory of the process's own /dev, so that no layer ever has it."""

VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
)
BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
)
WRITERS = ("ca-certificates", "ca-trust", "ca-bundle")
LARGEST = 16 << 20


def with_certificates(request: BuildRequest) -> BuildRequest:
    """The request with ``$DOCKERMAGIC_CA`` where it names no file. Raises :class:`UsageError` for what is none."""
    path = request.ca
    if path is None and os.environ.get("DOCKERMAGIC_CA"):
        path = Path(os.environ["DOCKERMAGIC_CA"]).expanduser().absolute()
    if path is None:
        return request
    _read(path)
    return replace(request, ca=path)


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            text = file.read(LARGEST)
    except OSError as error:
        raise UsageError(f"cannot read the certificates {path}: {os.strerror(error.errno or 0)}") from None
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise UsageError(f"{path} holds no certificate", hint="It must be in PEM form: -----BEGIN CERTIFICATE-----")
    return text


def trust_mounts(
    args: tuple[str, ...], env: Mapping[str, str], rootfs: Rootfs, shop: Workshop
) -> tuple[list[Mount], dict[str, str]]:
    """What a process needs to trust the request's certificates beside those of the image: mounts and variables.

    A variable that the image sets stays as it is. A command that writes the bundle itself (``update-ca-certificates``)
    sees it as it is: nothing can be renamed over a mount.
    """
    if shop.request.ca is None:
        return [], {}
    found = shop.sandbox.call("dockermagic.build.trust:look", mounts={"root": rootfs}, cancel=shop.cancel)
    content = (found["bundle"].rstrip("\n") + "\n" + _read(shop.request.ca)).lstrip("\n").encode("ascii", "replace")
    places = [] if any(word in part for part in args for word in WRITERS) else found["places"]
    mounts = [Mount("file", path, content=content, mode=0o444, readonly=True) for path in (PLACE, *places)]
    return mounts, {name: PLACE for name in VARIABLES if name not in env}


def look(root: str) -> dict[str, Any]:
    """The certificates that a root filesystem has, and the real places of their files; runs in the worker."""
    places: list[str] = []
    bundle = ""
    for path in BUNDLES:
        existing, missing = follow(path, link_below(root))
        place = f"/{existing}"
        if missing or place in places or not stat.S_ISREG(os.lstat(f"{root}/{existing}").st_mode):
            continue
        places.append(place)
        if not bundle:
            with open(f"{root}/{existing}", encoding="ascii", errors="replace") as file:
                bundle = file.read(LARGEST)
    return {"places": places, "bundle": bundle}

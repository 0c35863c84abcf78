"""``registry``: the store as a registry for this machine, or for a classroom's network."""

from __future__ import annotations

import os
import secrets

from dockermagic.oci.reference import is_loopback
from dockermagic.verbs.base import Console, Verb
from dockermagic.verbs.options import Arguments, flag, text

__all__ = ["REGISTRY"]

_VARIABLE = "DOCKERMAGIC_REGISTRY_TOKEN"


def _port(value: str) -> int:
    if not value.isdigit() or int(value) > 65535:
        raise ValueError("not a port")
    return int(value)


def registry(console: Console, arguments: Arguments) -> int:
    """Serve until Ctrl-C; from a cell until the kernel ends."""
    token = ""
    if not arguments.flag("read-only"):
        token = os.environ.get(_VARIABLE) or secrets.token_urlsafe(12)
    host, port = arguments.text("host"), _port(arguments.text("port"))
    server = console.engine.serve(host, port, token=token)
    address = (
        f"{os.uname().nodename}:{server.address.rpartition(':')[2]}" if host in ("0.0.0.0", "::") else server.address
    )
    console.write(f"The images of {console.engine.home} are at http://{address}\npull:   docker pull {address}/NAME\n")
    if token:
        shown = f"${_VARIABLE} as the password" if os.environ.get(_VARIABLE) else f"the password {token}"
        console.write(f"push:   docker login -u anybody {address}, with {shown}\n")
    if not is_loopback(server.address):
        console.write(
            "It speaks plain HTTP, which others must be told:"
            f' [registries] insecure = ["{address}"] in the config file,\n'
            f'for Docker "insecure-registries": ["{address}"] in daemon.json.\n'
        )
    if console.stdin is None:  # a cell: it goes on beside the kernel
        return 0
    console.stdout().flush()
    try:
        server.wait()
    except KeyboardInterrupt:
        pass  # its ordinary end
    finally:
        server.close()
    return 0


REGISTRY = Verb(
    "registry",
    "[OPTIONS]",
    "Serve the store as a registry",
    registry,
    (
        text("host", "", "Address to listen at; 0.0.0.0 for the whole network", default="127.0.0.1"),
        text("port", "p", "Port to listen at, 0 for any that is free", default="5000", check=_port),
        flag("read-only", "", "Nobody may push"),
    ),
    more=(
        f"Everybody who reaches it may pull; the password for a push is ${_VARIABLE}, or made up and shown.\n"
        "It speaks plain HTTP: Docker takes that from loopback, and elsewhere where it is told to."
    ),
)

"""How requests, answers and errors cross between the client and the resident process: JSON, one line a message.

Errors of the project's tree keep their type and their fields on the way; others become SandboxError, a full disk
becomes StoreFullError.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dockermagic import errors
from dockermagic.sandbox.base import Mount, Process, Rootfs, Subpath, Ulimit
from dockermagic.values import asdict, fields, is_dataclass

if TYPE_CHECKING:
    import socket

__all__ = ["decode_error", "dump", "encode_error", "line", "load", "process_from_json", "rootfs_from_json", "to_json"]


def dump(value: Any) -> bytes:
    """One message: a line of JSON."""
    return json.dumps(value, default=to_json, separators=(",", ":")).encode("ascii") + b"\n"


def load(data: bytes) -> Any:
    """The value of one message."""
    return json.loads(data)


def line(control: socket.socket) -> bytes:
    """One message of a stream. Raises SandboxError where it ends before that does."""
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = control.recv(1 << 20)
        if not piece:
            raise errors.SandboxError("the request ended early")
        data += piece
    return bytes(data)


def to_json(value: Any) -> Any:
    """The values of :mod:`dockermagic.sandbox.base`, paths and bytes as JSON."""
    if isinstance(value, Rootfs):
        return {"lowers": [str(lower) for lower in value.lowers], "upper": str(value.upper) if value.upper else None}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name.name: getattr(value, name.name) for name in fields(value)}
    if hasattr(value, "items"):
        return dict(value.items())
    raise TypeError(f"{type(value).__name__} cannot cross to the sandbox")


def rootfs_from_json(value: dict[str, Any]) -> Rootfs:
    """Back from JSON."""
    return Rootfs(tuple(Path(lower) for lower in value["lowers"]), Path(value["upper"]) if value["upper"] else None)


def _mount(value: dict[str, Any]) -> Mount:
    source = value["source"]
    if isinstance(source, dict):
        source = Subpath(rootfs_from_json(source["rootfs"]), source["path"])
    elif source is not None:
        source = Path(source)
    return Mount(**{**value, "source": source, "content": base64.b64decode(value["content"])})


def process_from_json(value: dict[str, Any]) -> Process:
    """Back from JSON."""
    return Process(
        **{
            **value,
            "args": tuple(value["args"]),
            "mounts": tuple(_mount(item) for item in value["mounts"]),
            "ulimits": tuple(Ulimit(**item) for item in value["ulimits"]),
            "extra_hosts": tuple((name, address) for name, address in value["extra_hosts"]),
            "cap_add": tuple(value["cap_add"]),
            "cap_drop": tuple(value["cap_drop"]),
            "groups": tuple(value["groups"]),
            "window": tuple(value["window"]),
        }
    )


def encode_error(error: BaseException) -> dict[str, Any]:
    """An exception as JSON."""
    if isinstance(error, errors.DockermagicError):
        fields = dict(vars(error))
        place = fields.get("place")
        if place is not None:
            fields["place"] = asdict(place)
        return {"type": type(error).__name__, "fields": fields}
    if isinstance(error, OSError):
        if errors.is_full(error):
            return encode_error(errors.full_disk_error("the store"))
        where = f": {error.filename}" if error.filename else ""
        message = f"{error.strerror or error}{where}"
        return {
            "type": "SandboxError",
            "fields": {"message": message, "place": None, "hint": ""},
            "traceback": _trace(error),
        }
    return {
        "type": "SandboxError",
        "fields": {"message": f"{type(error).__name__}: {error}", "place": None, "hint": ""},
        "traceback": _trace(error),
    }


def _trace(error: BaseException) -> str:
    """Where it was raised. No source is read: what has the path of a file of ours may be a container's by now."""
    lines, step = [], error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_qualname}')
        step = step.tb_next
    return "\n".join((*lines, f"{type(error).__name__}: {error}"))


def decode_error(value: dict[str, Any]) -> errors.DockermagicError:
    """The exception to raise; its class is looked up in :mod:`dockermagic.errors` only."""
    kind = getattr(errors, value["type"], None)
    if not (isinstance(kind, type) and issubclass(kind, errors.DockermagicError)):
        kind = errors.SandboxError
    fields = dict(value["fields"])
    if fields.get("place"):
        fields["place"] = errors.Place(**fields["place"])
    if isinstance(fields.get("log_tail"), list):
        fields["log_tail"] = tuple(fields["log_tail"])
    error = kind.__new__(kind)
    Exception.__init__(error, fields["message"])
    vars(error).update(fields)
    if value.get("traceback"):
        error.__cause__ = RuntimeError(value["traceback"])
    return error

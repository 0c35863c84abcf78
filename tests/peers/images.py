"""Images to start from, made without any engine: the same archive loads in Docker, podman and ours."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from dockermagic.bases import find_base, write_busybox

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def busybox_archive(path: Path, reference: str = "busybox:latest") -> Path:
    """A docker-archive with busybox as one layer, the same on every machine with the same busybox."""
    base = find_base("busybox")
    assert base
    out = io.BytesIO()
    write_busybox(out)
    layer = out.getvalue()
    return write_archive(path, reference, [layer], {"Cmd": list(base.command), "Env": ["=".join(base.env[0])]})


def write_archive(path: Path, reference: str, layers: list[bytes], config: dict[str, object]) -> Path:
    """A docker-archive of uncompressed layers, by the rules of ``docker load``."""
    import platform

    machine = platform.machine()
    document = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "base"} for _ in layers],
    }
    encoded = json.dumps(document).encode()
    config_name = f"{hashlib.sha256(encoded).hexdigest()}.json"
    names = [f"{hashlib.sha256(data).hexdigest()}/layer.tar" for data in layers]
    manifest = [{"Config": config_name, "RepoTags": [reference], "Layers": names}]
    with tarfile.open(path, "w") as tar:
        members = [(config_name, encoded), *zip(names, layers, strict=True)]
        for name, data in [*members, ("manifest.json", json.dumps(manifest).encode())]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path

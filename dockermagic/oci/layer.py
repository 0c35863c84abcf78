"""Layers: changeset tar <-> directory. These run in the sandbox's worker, which has the rights of the image's root."""

from __future__ import annotations

from dockermagic.oci.pack import pack
from dockermagic.oci.unpack import LIMIT, unpack

__all__ = ["LIMIT", "pack", "unpack"]

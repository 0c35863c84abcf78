"""Looking into layers with the ids of their files: called in the sandbox's worker."""

from __future__ import annotations

import os
import stat
from typing import Any

from dockermagic.errors import DockermagicError
from dockermagic.oci.overlay import Ownership, ownership_file
from dockermagic.oci.pack import pack
from dockermagic.sandbox.trees import measure

__all__ = ["look"]


def look(stacks: list[list[str]], whole: list[bool]) -> list[dict[str, Any]]:
    """For each layer what cannot be read of it, its bytes and, where ``whole`` says so, its digest as a layer.

    A layer comes with the directories of those below it, bottom first.
    """
    found: list[dict[str, Any]] = []
    void = os.open(os.devnull, os.O_WRONLY)
    try:
        for (*lowers, directory), deep in zip(stacks, whole, strict=True):
            try:
                if not stat.S_ISDIR(os.lstat(directory).st_mode):
                    raise NotADirectoryError(20, "not a directory", directory)
                Ownership(ownership_file(directory))
                one: dict[str, Any] = {"bytes": measure(directory)}
                if deep:
                    one["diff_id"] = pack(directory, void, lowers=lowers, compression="none")["diff_id"]
            except FileNotFoundError:
                one = {"gone": True}
            except OSError as error:
                one = {"problem": f"{error.strerror}: {error.filename}"}
            except (DockermagicError, ValueError) as error:
                one = {"problem": str(error)}
            found.append(one)
    finally:
        os.close(void)
    return found

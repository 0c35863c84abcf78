"""Paths inside a root filesystem that is mounted somewhere else: no link leads out of it."""

from __future__ import annotations

import os
import stat

from dockermagic.errors import BuildError

__all__ = ["resolve_inside"]


def resolve_inside(root: str, path: str) -> tuple[str, list[str]]:
    """Follow links inside the root: the existing part of the path, and the components that are missing below it."""
    todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
    here: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            here = here[:-1]
            continue
        below = "/".join([root, *here, part])
        try:
            status = os.lstat(below)
        except (FileNotFoundError, NotADirectoryError):
            return "/".join(here), [part, *reversed(todo)]
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > 255:
                raise BuildError(f"too many links in the way to /{path}")
            target = os.readlink(below)
            if target.startswith("/"):
                here = []
            todo += [item for item in target.split("/") if item not in ("", ".")][::-1]
        else:
            here.append(part)
    return "/".join(here), []

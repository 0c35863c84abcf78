"""Where there is no Linux: layers are made and read in this process, as records (:mod:`dockermagic.oci.recorded`), and
nothing can be run in them.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from dockermagic.errors import BuildInterruptedError, SandboxUnavailableError
from dockermagic.sandbox import wire
from dockermagic.sandbox.base import Cancel, Rootfs

if TYPE_CHECKING:
    from dockermagic.sandbox.interpreters import Begun
    from dockermagic.sandbox.running import Running

__all__ = ["Elsewhere", "nothing_runs"]

_PLACES = {
    "darwin": ("macOS", "in a virtual machine with Linux"),
    "win32": ("Windows", "in WSL 2"),
}


def nothing_runs() -> SandboxUnavailableError:
    """The error for whatever has to run a program of an image."""
    system, place = _PLACES.get(sys.platform, (sys.platform, "on Linux"))
    return SandboxUnavailableError(
        f"nothing can be run here: a RUN and a container need Linux, and this is {system}",
        hint=f"Use dockermagic {place}. What runs no program works here: COPY, ADD, pull, push, save, load, check.",
    )


class Elsewhere:
    """See :class:`dockermagic.sandbox.base.Sandbox`; what would run a program raises SandboxUnavailableError."""

    mode = "recorded"

    def begin(self, begun: Begun | None = None) -> None:
        """Raises SandboxUnavailableError."""
        raise nothing_runs()

    def close(self) -> None:
        """There is nothing to end."""

    def call(
        self,
        function: str,
        *,
        mounts: Mapping[str, Rootfs] | None = None,
        fds: Mapping[str, int] | None = None,
        cancel: Cancel | None = None,
        output: Callable[[Any], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Call the function here, with arguments and a result as they would come from another process.

        A cancel counts before it begins: what it makes is thrown away by whoever asked for it.
        """
        from dockermagic.oci.recorded import merged

        if cancel is not None and cancel.is_set():
            raise BuildInterruptedError("interrupted")
        module, _, name = function.partition(":")
        given = {**wire.load(wire.dump(arguments)), **(fds or {})}
        if output is not None:
            given["emit"] = output
        with contextlib.ExitStack() as stack:
            for mount, rootfs in (mounts or {}).items():
                given[mount] = stack.enter_context(merged([str(layer) for layer in rootfs.lowers]))
            result = getattr(importlib.import_module(module), name)(**given)
        return wire.load(wire.dump(result))

    def run(self, *_: object, **__: object) -> int:
        """Raises SandboxUnavailableError."""
        raise nothing_runs()

    def start(self, *_: object, **__: object) -> Running:
        """Raises SandboxUnavailableError."""
        raise nothing_runs()

    def beside(self, *_: object, **__: object) -> NoReturn:
        """Raises SandboxUnavailableError."""
        raise nothing_runs()

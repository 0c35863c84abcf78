"""What of a process has to be known before it comes."""

from __future__ import annotations

from dockermagic.sandbox.base import Process
from dockermagic.sandbox.capabilities import DEFAULT, allowed
from dockermagic.values import dataclass

__all__ = ["Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What of a request the namespaces and the stage depend on."""

    network: str = "host"
    masked: bool = True
    capabilities: int = DEFAULT

    @classmethod
    def of(cls, process: Process) -> Profile:
        """The profile that a process needs."""
        return cls(process.network, process.security != "insecure", allowed(process))

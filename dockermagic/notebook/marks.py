"""Tells the lab extension which cells are stale, so that it can mark them."""

from __future__ import annotations

from collections.abc import Iterable

from dockermagic.errors import DockermagicError
from dockermagic.notebook.identity import ORDER
from dockermagic.session import Session

__all__ = ["tell_stale"]


def tell_stale(sessions: Iterable[Session]) -> None:
    """One message that opens a channel and carries all there is to say; who does not know it ignores it."""
    from comm import create_comm

    stale = []
    for session in sessions:
        try:
            stale += [cell.id for cell in session.chain.off if cell.built is not None]
        except DockermagicError:
            continue  # a session that cannot be read has said so already
    create_comm(target_name=ORDER, data={"stale": stale}).close()

"""Notebook cells as one Dockerfile in the making: the chain, its script, its place on disk, its builds."""

from __future__ import annotations

from dockermagic.session.cellrun import Run, Standing
from dockermagic.session.chain import Cell, Chain
from dockermagic.session.script import Script
from dockermagic.session.session import Builder, Session, Watch, labels
from dockermagic.session.store import SessionName, SessionStore

__all__ = [
    "Builder",
    "Cell",
    "Chain",
    "Run",
    "Script",
    "Session",
    "SessionName",
    "SessionStore",
    "Standing",
    "Watch",
    "labels",
]

"""What is shown, as plain frozen values: a built cell, a history, a tree of files, images, a container, a session.

Engines and sessions fill them, terminals and notebooks draw them; nothing here draws or asks. A built cell is made from
the fold of its events in :mod:`dockermagic.buildview`.
"""

from __future__ import annotations

from typing import Literal

from dockermagic.events import Status, Warning, warning_text
from dockermagic.imagediff import ImageDiff
from dockermagic.values import dataclass

__all__ = [
    "METADATA",
    "BuildView",
    "CellRow",
    "CellState",
    "ChangesView",
    "CheckView",
    "ContainerRow",
    "ContainerView",
    "ContainersView",
    "DiffView",
    "DockerfileView",
    "HistoryRow",
    "HistoryView",
    "ImageRow",
    "ImagesView",
    "InfoRow",
    "InfoView",
    "InspectView",
    "Instruction",
    "Kind",
    "MessageView",
    "SessionView",
    "State",
    "StepState",
    "StepView",
    "TreeEntry",
    "TreeView",
    "Usage",
    "UsageView",
    "View",
    "Waste",
    "WastedPath",
    "keyword",
    "warning_text",
]

StepState = Literal["waiting", "running", "done", "cached", "failed", "stopped", "skipped"]
State = Literal["", "added", "modified", "removed"]
CellState = Literal["built", "stale", "failed"]
Kind = Literal["file", "directory", "link", "hardlink", "device", "fifo", "socket"]

_METADATA = "ARG CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL MAINTAINER ONBUILD SHELL STOPSIGNAL USER VOLUME"
METADATA = frozenset(_METADATA.split())
"""Instructions that change the image config and never make a layer."""


def keyword(text: str) -> str:
    """The instruction's name, in capitals."""
    return text.split(None, 1)[0].upper() if text.strip() else ""


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of a cell before it is built: its 0-based index in the text that is built, its text as written."""

    index: int
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """One row of a built cell.

    ``number`` counts the rows from 1. ``skipped`` is the state of what stood behind a failure. ``size`` is None where
    no layer was made. ``log`` is the newest output, as the process wrote it, and ``log_dropped`` the bytes before it
    that were not kept. Times are seconds since the epoch.
    """

    number: int
    text: str
    state: StepState = "waiting"
    started: float | None = None
    completed: float | None = None
    size: int | None = None
    added: int = 0
    modified: int = 0
    removed: int = 0
    reason: str = ""
    log: bytes = b""
    log_dropped: int = 0
    error: str = ""
    transfers: tuple[Status, ...] = ()
    line: int | None = None
    digest: str = ""
    internal: bool = False

    @property
    def metadata(self) -> bool:
        """Whether it only changes the image config."""
        return keyword(self.text) in METADATA

    @property
    def layer(self) -> bool:
        """Whether it made, or took over, a layer of its own."""
        return self.state in ("done", "cached") and self.size is not None and not self.metadata and not self.is_base

    @property
    def is_base(self) -> bool:
        return keyword(self.text) == "FROM"

    def seconds(self, now: float) -> float | None:
        """How long it took, or has taken until ``now``; None before it began."""
        if self.started is None:
            return None
        return max(0.0, (now if self.completed is None else self.completed) - self.started)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A step of an image's history: ``created`` is an RFC 3339 time, ``size`` bytes, ``image_id`` '' where not known.

    ``cell`` is the cell that made it, ``cached`` whether its layer was reused there (None: not known). An ``empty``
    step made no layer. ``reason`` says why it was built, ``seconds`` how long that took. ``digest`` is the layer's
    diff_id, where somebody asked for it.
    """

    created: str
    created_by: str
    size: int
    comment: str = ""
    image_id: str = ""
    cell: str = ""
    cached: bool | None = None
    empty: bool = False
    reason: str = ""
    seconds: float | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True)
class WastedPath:
    """A path whose bytes are stored ``count`` times more often than they are seen."""

    path: str
    bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class Waste:
    """Bytes of an image that nobody sees, of a ``total``; the worst ``paths``.

    ``wasted`` bytes and ``efficiency``, between 0 and 1, are as dive counts: of a path that is stored more than once it
    calls all of its bytes wasted. ``left`` are caches and the like that are still to be seen and that an image seldom
    needs.
    """

    bytes: int
    total: int
    wasted: int
    efficiency: float
    paths: tuple[WastedPath, ...] = ()
    left: tuple[WastedPath, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryView:
    """An image's history, the newest step first. ``waste`` is None where nobody looked for it."""

    rows: tuple[HistoryRow, ...]
    title: str = ""
    waste: Waste | None = None


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file or directory. ``size`` of a directory is what lies below it; ``mode`` holds the permission bits only.

    ``children`` is None where they were not asked for, ``mode`` None where it is not known. ``link`` is a symbolic
    link's target, ``mtime`` is in seconds (0: not known). ``state`` tells the difference to what the tree is compared
    with; of a directory it tells its own, not that of its content.
    """

    name: str
    kind: Kind = "file"
    size: int = 0
    mode: int | None = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    state: State = ""
    children: tuple[TreeEntry, ...] | None = None
    changed_below: bool = False
    mtime: int = 0


@dataclass(frozen=True, slots=True)
class TreeView:
    """A directory of a root filesystem, of which ``more`` entries are not among ``entries``. ``against`` names what
    states compare with ('' for nothing).
    """

    entries: tuple[TreeEntry, ...]
    path: str = "/"
    title: str = ""
    against: str = ""
    added: int = 0
    modified: int = 0
    removed: int = 0
    more: int = 0


@dataclass(frozen=True, slots=True)
class ChangesView:
    """What changed between two root filesystems: path, how, and the size in bytes."""

    changes: tuple[tuple[str, State, int], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image in the store; names are '' where it has none."""

    repository: str
    tag: str
    id: str
    created: str
    size: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ImagesView:
    """The images of a store."""

    rows: tuple[ImageRow, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """A line of ``df``: how many there are, how many are in use, their bytes, and how many of them could go."""

    kind: str
    total: int
    active: int
    size: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class UsageView:
    """What takes the room of a store."""

    rows: tuple[Usage, ...]


@dataclass(frozen=True, slots=True)
class DiffView:
    """How the image ``second`` differs from ``first``."""

    first: str
    second: str
    diff: ImageDiff


@dataclass(frozen=True, slots=True)
class ContainerView:
    """A container's run. ``output`` holds both streams as they came; ``exit_code`` is None while it runs.

    ``id`` and ``ports``, as ``docker ps`` writes them, are those of a container that outlives its cell; ``health`` is
    '', starting, healthy or unhealthy, and ``gone`` says that it was removed.
    """

    image: str
    command: tuple[str, ...] = ()
    exit_code: int | None = None
    output: bytes = b""
    output_dropped: int = 0
    started: float | None = None
    seconds: float | None = None
    name: str = ""
    stopped: bool = False
    id: str = ""
    ports: str = ""
    health: str = ""
    gone: bool = False


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """A container in a list. ``state`` is created, running, restarting or exited, ``status`` Docker's words for it."""

    id: str
    name: str
    image: str
    command: tuple[str, ...]
    state: str
    status: str
    ports: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ContainersView:
    """Containers, the newest first; ``text`` is the list as ``docker ps`` prints it."""

    rows: tuple[ContainerRow, ...]
    text: str


@dataclass(frozen=True, slots=True)
class CellRow:
    """A cell of a session. ``why`` says in words why it is stale or what failed."""

    label: str
    text: str
    state: CellState = "built"
    layers: int = 0
    size: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as it stands: its cells in their order, and the names its images bear."""

    name: str
    cells: tuple[CellRow, ...]
    context: str = ""
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DockerfileView:
    """A Dockerfile with the cells its lines came from: pairs of a 1-based first line and a cell's name."""

    text: str
    cells: tuple[tuple[int, str], ...] = ()
    warnings: tuple[Warning, ...] = ()
    title: str = "Dockerfile"


@dataclass(frozen=True, slots=True)
class CheckView:
    """What ``check`` found in a Dockerfile."""

    text: str
    warnings: tuple[Warning, ...] = ()
    title: str = "Dockerfile"


@dataclass(frozen=True, slots=True)
class InfoRow:
    """A fact about this host. ``state`` says whether all is well, less than it could be, or impossible; ``why`` why."""

    name: str
    value: str
    state: Literal["", "good", "less", "none"] = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class InfoView:
    """What this host can do."""

    rows: tuple[InfoRow, ...]
    title: str = "This host"


@dataclass(frozen=True, slots=True)
class InspectView:
    """What matters of images and containers, and ``text``, which is all of it as ``docker inspect`` prints it."""

    parts: tuple[InfoView, ...]
    text: str


@dataclass(frozen=True, slots=True)
class MessageView:
    """A sentence about what was done, with further lines and what to do next."""

    text: str
    lines: tuple[str, ...] = ()
    hint: str = ""
    state: Literal["", "good", "less", "none"] = ""


@dataclass(frozen=True, slots=True)
class BuildView:
    """A built cell, or one that is being built.

    ``images`` are the names that the image bears now. ``stale`` are the cells that left the chain by this run.
    ``outdated`` says why this cell itself has become stale since it was built, '' while it has not.
    ``error`` is the short message of what went wrong. ``history``, ``tree`` and ``config`` are shown folded where they
    are given.
    """

    steps: tuple[StepView, ...] = ()
    cell: str = ""
    internal: tuple[StepView, ...] = ()
    warnings: tuple[Warning, ...] = ()
    stale: tuple[str, ...] = ()
    outdated: str = ""
    images: tuple[str, ...] = ()
    image_id: str = ""
    error: str = ""
    stopped: bool = False
    finished: bool = False
    started: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    history: HistoryView | None = None
    tree: TreeView | None = None
    config: tuple[tuple[str, str], ...] = ()

    @property
    def layers(self) -> tuple[StepView, ...]:
        """The rows that stand for a layer of this cell."""
        return tuple(step for step in self.steps if step.layer)

    @property
    def size(self) -> int:
        """The size of this cell's layers in bytes."""
        return sum(step.size or 0 for step in self.layers)

    @property
    def failed(self) -> bool:
        return bool(self.error) or any(step.state == "failed" for step in self.steps)


View = (
    BuildView
    | ChangesView
    | CheckView
    | ContainersView
    | ContainerView
    | DiffView
    | DockerfileView
    | HistoryView
    | ImagesView
    | InfoView
    | InspectView
    | MessageView
    | SessionView
    | TreeView
    | UsageView
)

"""Views as a person meets them: made from events and values, for the tests and for the gallery."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from dockermagic.buildview import build_view
from dockermagic.errors import Place
from dockermagic.events import Event, Log, Progress, Status, Vertex, Warning
from dockermagic.imagediff import FieldChange, ImageDiff, PathChange
from dockermagic.notebook.views import inspect_view
from dockermagic.view import (
    BuildView,
    CellRow,
    ChangesView,
    CheckView,
    ContainerRow,
    ContainersView,
    ContainerView,
    DiffView,
    DockerfileView,
    HistoryRow,
    HistoryView,
    ImageRow,
    ImagesView,
    InfoRow,
    InfoView,
    InspectView,
    Instruction,
    MessageView,
    SessionView,
    TreeEntry,
    TreeView,
    Usage,
    UsageView,
    View,
    Waste,
    WastedPath,
)

NOW = datetime.now(UTC).timestamp()

APT = """RUN apt-get update \\
    && apt-get install -y --no-install-recommends jq curl \\
    # the lists are not needed any more
    && rm -rf /var/lib/apt/lists/*"""

JSON_ARGS = "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"
MAKE_LOG = b"""cc -c main.c
\x1b[31mmain.c:3:1: error:\x1b[0m unknown type name 'itn'
make: *** [Makefile:2: main.o] Error 1
"""
INSTALL = "apt-get update && apt-get install -y --no-install-recommends jq curl && rm -rf /var/lib/apt/lists/*"
APT_LOG = b"".join(
    b"Get:%d http://deb.debian.org/debian bookworm/main amd64 Packages [%d kB]\n" % (n, 81 * n) for n in range(1, 19)
)
APT_LOG += b"Reading package lists...\nSetting up \x1b[1mjq\x1b[0m (1.6-2.1) ...\n"
APT_LOG += b"\x1b[33mdebconf: delaying package configuration\x1b[0m\n"
APT_LOG += b"Progress: 10%\rProgress: 50%\rProgress: 100%\n\x1b[32mdone\x1b[0m\n"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def step(index: int, name: str, begin: float, end: float | None, *, logs: bytes = b"", **facts: object) -> list[Event]:
    """The events of one instruction."""
    digest = f"sha256:{index:064d}"
    known = {"instruction": index, "started": NOW + begin} | facts
    events: list[Event] = [Vertex(digest, name, **known)] if not facts.get("cached") else []  # type: ignore[arg-type]
    if logs:
        events.append(Log(digest, 1, logs, NOW + begin + 0.1))
    if end is not None:
        events.append(Vertex(digest, name, **(known | {"completed": NOW + end})))  # type: ignore[arg-type]
    return events


def fold(events: list[Event]) -> Progress:
    progress = Progress()
    for event in events:
        progress.add(event)
    return progress


CELL = (
    Instruction(0, "FROM debian:bookworm AS build", 2),
    Instruction(1, APT, 3),
    Instruction(2, "WORKDIR /app", 7),
    Instruction(3, "COPY --chown=1000:1000 requirements.txt app.py ./", 8),
    Instruction(4, "ENV PORT=8000 GREETING=${NAME:-hello}", 9),
    Instruction(5, 'RUN echo "Hello from a layer"', 10),
    Instruction(6, "CMD python app.py --port $PORT", 11),
)


def built() -> BuildView:
    events = [
        *step(0, "[1/5] FROM debian:bookworm", -13, -12.9, cached=True, layer_size=117_000_000),
        *step(
            1,
            "[2/5] RUN apt-get",
            -12.8,
            -0.4,
            logs=APT_LOG,
            layer_size=38_214_000,
            added=312,
            modified=4,
            removed=1,
            reason="the command changed",
        ),
        *step(2, "[3/5] WORKDIR /app", -0.4, -0.39, layer_size=0, added=1),
        *step(3, "[4/5] COPY", -0.39, -0.3, layer_size=4_812, added=2, reason="app.py changed"),
        *step(
            5,
            "[5/5] RUN echo",
            -0.3,
            -0.1,
            logs=b"Hello from a layer\n",
            layer_size=0,
            reason="a step before it changed",
        ),
        Warning(
            "x",
            1,
            f"JSONArgsRecommended: {JSON_ARGS}",
            ("In the shell form a shell stands between the container's signals and the program.",),
            "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
            line=11,
            rule="JSONArgsRecommended",
            place=Place(11, 0, None, "CMD python app.py"),
        ),
    ]
    view = build_view(fold(events), CELL, cell="cell [3]", finished=True)
    from dataclasses import replace

    return replace(
        view,
        stale=("cell [4]", "cell [5]"),
        images=("demo:latest",),
        history=history(),
        tree=small_tree(),
        config=(("WorkingDir", "/app"), ("Env", "PORT=8000 GREETING=hello"), ("Cmd", "python app.py --port $PORT")),
    )


def all_cached() -> BuildView:
    events = [
        *step(0, "[1/2] FROM busybox", -1, -0.99, cached=True, layer_size=4_260_000),
        *step(1, "[2/2] RUN echo hi > /hello", -0.99, -0.98, cached=True, layer_size=3, added=1),
    ]
    cell = (
        Instruction(0, "FROM busybox", 2),
        Instruction(1, "RUN echo hi > /hello", 3),
        Instruction(2, 'CMD ["cat", "/hello"]', 4),
    )
    return build_view(fold(events), cell, cell="cell hello", finished=True)


def running() -> BuildView:
    pull = "sha256:" + "ab" * 32
    events = [
        Vertex("pull", "load metadata", started=NOW - 6),
        *step(0, "[1/5] FROM debian:bookworm", -5, None),
        Status(f"sha256:{0:064d}", pull, "", 21_300_000, 49_600_000, NOW, NOW - 5),
        *step(1, "[2/5] RUN apt-get", -3.4, None, logs=APT_LOG),
    ]
    return build_view(fold(events), CELL, cell="cell [3]")


def failed() -> BuildView:
    events = [
        *step(0, "[1/3] FROM busybox", -1, -0.99, cached=True, layer_size=4_260_000),
        *step(
            1,
            "[2/3] RUN make",
            -0.9,
            -0.2,
            logs=MAKE_LOG,
            error='process "/bin/sh -c make" did not complete successfully: exit code: 2',
        ),
    ]
    cell = (Instruction(0, "FROM busybox", 2), Instruction(1, "RUN make", 3), Instruction(2, "RUN make install", 4))
    view = build_view(fold(events), cell, cell="cell [7]", finished=True)
    from dataclasses import replace

    return replace(
        view,
        stale=("cell [8]",),
        notes=("The half-made layer is kept until the next build: %dockerfile tree --failed",),
    )


def history() -> HistoryView:
    return HistoryView(
        (
            HistoryRow(
                ago(4),
                'CMD ["/bin/sh" "-c" "python app.py --port $PORT"]',
                0,
                "buildkit.dockerfile.v0",
                "sha256:" + "3f" * 32,
                "cell [3]",
                empty=True,
            ),
            HistoryRow(
                ago(5),
                'RUN /bin/sh -c echo "Hello from a layer" # buildkit',
                0,
                "buildkit.dockerfile.v0",
                cell="cell [3]",
            ),
            HistoryRow(
                ago(5), "ENV PORT=8000 GREETING=hello", 0, "buildkit.dockerfile.v0", cell="cell [3]", empty=True
            ),
            HistoryRow(
                ago(6),
                "COPY requirements.txt app.py ./ # buildkit",
                4_812,
                "buildkit.dockerfile.v0",
                cell="cell [3]",
                cached=False,
            ),
            HistoryRow(
                ago(80),
                f"RUN /bin/sh -c {INSTALL} # buildkit",
                38_214_000,
                "buildkit.dockerfile.v0",
                cell="cell [2]",
                cached=True,
            ),
            HistoryRow(ago(3600 * 24 * 12), '/bin/sh -c #(nop)  CMD ["bash"]', 0, empty=True),
            HistoryRow(
                ago(3600 * 24 * 12), "/bin/sh -c #(nop) ADD file:9d2a… in / ", 117_000_000, "debuerreotype 0.15"
            ),
        ),
        "History of demo:latest",
        Waste(
            21_400_000,
            176_000_000,
            40_600_000,
            0.878,
            (WastedPath("/app/model.bin", 19_000_000, 1), WastedPath("/usr/lib/python3/x.pyc", 2_400_000, 2)),
            (WastedPath("/var/lib/apt/lists", 18_200_000, 0),),
        ),
    )


def small_tree() -> TreeView:
    app = TreeEntry(
        "app",
        "directory",
        4_812,
        0o755,
        state="added",
        changed_below=True,
        children=(
            TreeEntry("app.py", size=4_700, mode=0o644, uid=1000, gid=1000, state="added"),
            TreeEntry("requirements.txt", size=112, mode=0o644, uid=1000, gid=1000, state="added"),
        ),
    )
    etc = TreeEntry(
        "etc",
        "directory",
        412_000,
        0o755,
        changed_below=True,
        children=(
            TreeEntry("ld.so.cache", size=9_120, state="modified"),
            TreeEntry("passwd", size=839, mode=0o644),
            TreeEntry("motd", size=286, state="removed"),
            TreeEntry("shadow", size=501, mode=0o640, gid=42),
        ),
    )
    usr = TreeEntry(
        "usr",
        "directory",
        152_000_000,
        0o755,
        changed_below=True,
        children=(
            TreeEntry(
                "bin",
                "directory",
                61_000_000,
                0o755,
                changed_below=True,
                children=tuple(
                    [TreeEntry(f"tool-{n:03}", size=1000 * n, mode=0o755) for n in range(150)]
                    + [
                        TreeEntry("jq", size=30_928, mode=0o755, state="added"),
                        TreeEntry("sudo", size=281_000, mode=0o4755),
                    ]
                ),
            ),
            TreeEntry("lib", "directory", 91_000_000, 0o755, children=None),
        ),
    )
    return TreeView(
        (
            app,
            etc,
            usr,
            TreeEntry("bin", "link", 7, 0o777, link="usr/bin"),
            TreeEntry("dev", "directory", 0, 0o755, children=()),
            TreeEntry("tmp", "directory", 0, 0o1777, children=()),
            TreeEntry("ünïcode \u4e2d\u6587 <b>&amp", size=0, state="added"),
        ),
        title="Files of demo:latest",
        against="cell [2]",
        added=315,
        modified=1,
        removed=1,
    )


def images() -> ImagesView:
    return ImagesView(
        (
            ImageRow("demo", "latest", "sha256:3f9a1bd2c7e4" + "0" * 52, ago(4), 155_218_812),
            ImageRow("debian", "bookworm", "sha256:8c7f00d1aa42" + "0" * 52, ago(3600 * 24 * 12), 117_000_000),
            ImageRow("busybox", "latest", "sha256:a416a98b71e2" + "0" * 52, ago(65), 4_260_000),
            ImageRow("", "", "sha256:0123456789ab" + "0" * 52, ago(7300), 4_260_003),
        )
    )


def usage() -> UsageView:
    return UsageView(
        (
            Usage("Images", 5, 2, 155_218_812, 38_214_000),
            Usage("Containers", 1, 1, 4_096, 0),
            Usage("Local Volumes", 0, 0, 0, 0),
            Usage("Build Cache", 41, 0, 96_000_000, 96_000_000),
        )
    )


def diff() -> DiffView:
    return DiffView(
        "app:1",
        "app:2",
        ImageDiff(
            (FieldChange("config.Env", '["A=1"]', '["A=<2>"]'), FieldChange("config.Labels.made", "", '"today"')),
            (("sha256:3f9a1bd2c7e4" + "0" * 52, "sha256:8c7f00d1aa42" + "0" * 52),),
            (
                PathChange("/app/main.py", "changed", "file", ("content", "time")),
                PathChange("/app/new", "added", "file"),
                PathChange("/app/old <one>", "removed", "dir"),
            ),
            203,
        ),
    )


def session() -> SessionView:
    return SessionView(
        "01-first-image",
        (
            CellRow("cell [1]", "FROM debian:bookworm AS build", "built", 1, 117_000_000),
            CellRow("cell [3]", APT + "\nWORKDIR /app", "built", 2, 38_214_000),
            CellRow("cell app", "COPY app.py ./", "stale", 1, 4_812, "app.py changed"),
            CellRow("cell [5]", "RUN python -m compileall .", "stale", 0, 0, "an earlier cell changed"),
            CellRow("cell [6]", "RUN pytest", "failed", 0, 0, "exit code 1"),
        ),
        "~/lessons",
        ("demo:latest",),
    )


DOCKERFILE = """# syntax=docker/dockerfile:1
FROM debian:bookworm AS build
RUN apt-get update \\
    && apt-get install -y jq
# where the app lives
WORKDIR app
COPY --chown=1000 app.py ./
RUN <<EOF
set -e
echo run $PORT
EOF
CMD python app.py
"""


def dockerfile() -> DockerfileView:
    relative = 'Relative workdir "app" can have unexpected results if the base image changes'
    warning = Warning("", 1, relative, line=6, rule="WorkdirRelativePath")
    return DockerfileView(DOCKERFILE, ((1, "cell [1]"), (3, "cell [3]"), (5, "cell app")), (warning,))


def changes() -> ChangesView:
    paths = (("/app", "added", 4096), ("/app/app.py", "added", 4700))
    more = (("/etc/ld.so.cache", "modified", 9120), ("/etc/motd", "removed", 286))
    return ChangesView((*paths, *more), "Changes of cell [3]")  # type: ignore[arg-type]


def info() -> InfoView:
    return InfoView(
        (
            InfoRow("Id mode", "a range of ids", "good", "newuidmap and /etc/subuid allow 65536 ids"),
            InfoRow("Layers", "overlay", "good"),
            InfoRow("Network", "the host's", "less", "slirp4netns is missing: no network of its own can be made"),
            InfoRow("Foreign platforms", "none", "none", "binfmt_misc has no qemu"),
            InfoRow("Store", "/home/ada/.local/share/dockermagic (1.2GB)"),
        )
    )


def inspected() -> InspectView:
    """An image and a container made from it."""
    image = {
        "Id": f"sha256:{'3f9a1bd2c7e4':0<64}",
        "RepoTags": ["demo:latest"],
        "Created": "2024-05-01T12:00:00Z",
        "Size": 155_000_000,
        "Os": "linux",
        "Architecture": "arm64",
        "Variant": "v8",
        "Config": {
            "User": "1000",
            "Env": ["PORT=8000", "GREETING=Hello, world"],
            "Cmd": ["python", "app.py"],
            "ExposedPorts": {"8000/tcp": {}},
            "Labels": {"maintainer": "ada"},
        },
        "RootFS": {"Type": "layers", "Layers": ["sha256:a", "sha256:b"]},
    }
    container = {
        "Id": f"{'0f3c2d9b7a11':0<64}",
        "Created": "2024-05-01T12:00:00Z",
        "Path": "python",
        "Args": ["app.py", "--port", "8000"],
        "State": {"Status": "exited", "ExitCode": 3},
        "Name": "/web",
        "Config": {"Image": "demo", "Env": ["PORT=8000"], "Hostname": "0f3c2d9b7a11", "WorkingDir": "/srv"},
        "NetworkSettings": {"Ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "49153"}], "53/udp": None}},
    }
    documents = [image, container]
    return inspect_view(documents, json.dumps(documents, indent=4) + "\n")


CONTAINERS = """CONTAINER ID   IMAGE     COMMAND                CREATED         STATUS                   PORTS     NAMES
0f3c2d9b7a11   demo      "python app.py --por…" 3 minutes ago   Up 3 minutes   127.0.0.1:8000->8000/tcp   web
77aa0be01c52   busybox   "sh -c 'exit 3'"       2 hours ago     Exited (3) 2 hours ago              keen_lark
"""


def containers() -> ContainersView:
    command = ("python", "app.py", "--port", "8000")
    ports = "127.0.0.1:8000->8000/tcp"
    rows = (
        ContainerRow("0f3c2d9b7a11", "web", "demo", command, "running", "Up 3 minutes", ports),
        ContainerRow(
            "77aa0be01c52",
            "keen_lark",
            "busybox",
            ("sh", "-c", "exit 3"),
            "exited",
            "Exited (3) 2 hours ago",
            exit_code=3,
        ),
    )
    return ContainersView(rows, CONTAINERS)


def scenes() -> dict[str, View]:
    """Every view by a name."""
    output = b"Hello from a container\n\x1b[36mPORT\x1b[0m=8000\n"
    hello = ("python", "-c", "print('Hello from a container')")
    made = ("/usr/bin/busybox, static, 1.9MB",)
    return {
        "built": built(),
        "all cached": all_cached(),
        "running": running(),
        "failed": failed(),
        "history": history(),
        "tree": small_tree(),
        "changes": changes(),
        "images": images(),
        "usage": usage(),
        "diff": diff(),
        "no diff": DiffView("a", "b", ImageDiff((), (), (), 0)),
        "container": ContainerView("demo:latest", hello, 0, output, seconds=0.21),
        "container failed": ContainerView("busybox", ("sh", "-c", "exit 3"), 3, b"", seconds=0.04),
        "container that lasts": ContainerView(
            "demo", hello, None, b"", id="0f3c2d9b7a11", name="web", ports="127.0.0.1:8000->8000/tcp", health="healthy"
        ),
        "containers": containers(),
        "session": session(),
        "show": dockerfile(),
        "check": CheckView(DOCKERFILE, dockerfile().warnings),
        "info": info(),
        "inspect": inspected(),
        "message": MessageView("busybox was made from this machine's busybox.", made, "FROM busybox uses it.", "good"),
    }

"""A store that is treated badly, and what must hold of it afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.differential.tree import merged_tree, read_image
from tests.robustness import watched
from tests.robustness.watched import Outcome

HERE = Path(__file__).parent

# Two stages side by side; whiteouts, an opaque directory, hard links, an owner, a cache mount, a WORKDIR.
DOCKERFILE = """\
FROM busybox AS one
ARG SALT
RUN echo $SALT > /salt && mkdir -p /d/e && echo 1 > /d/e/f && ln /salt /again
RUN --mount=type=cache,target=/cache echo $SALT >> /cache/salts && rm -r /d && mkdir /d && touch /d/g && rm /etc/group

FROM busybox AS two
ARG SALT
COPY --chown=5:6 files /files/
RUN echo two > /two && sleep 0.1 & wait; rm /files/file3

FROM one
WORKDIR /made/here
COPY --from=two /files /two /copied/
RUN chown 7:8 /copied/two && ln -s /two link && rm -f /tmp/none
"""
KEPT = "FROM busybox\nRUN echo kept > /kept\n"


@dataclass
class Store:
    """The command line on one store, watched."""

    home: Path
    directory: Path
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str | Path, code: int = 0, stdin: str = "") -> Outcome:
        """Run one command undisturbed."""
        done = self.start([[*map(str, words)]], stdin=stdin)
        assert done.code == code, f"{words}\n{done.out}{done.err}"
        return done

    def start(self, commands: Sequence[Sequence[str]], *, die_at: int = 0, count: str = "", **how: Any) -> Outcome:
        """Run commands one after another in one process; see :func:`tests.robustness.watched.run`."""
        spec: dict[str, Any] = {"commands": commands}
        spec |= {"die_at": die_at} if die_at else {}
        spec |= {"count": count} if count else {}
        words = [sys.executable, str(HERE / "commands.py"), json.dumps(spec)]
        done = watched.run(words, home=self.home, directory=self.directory, **how)
        assert done.left == (), "processes were left running"
        return done

    def prepare(self) -> None:
        """A context, a base, and an image that nothing may take away."""
        context = self.directory / "context/files"
        context.mkdir(parents=True)
        for number in range(20):
            (context / f"file{number}").write_text(f"{number}\n" * 50)
        (self.directory / "context/Dockerfile").write_text(DOCKERFILE)
        (self.directory / "kept.Dockerfile").write_text(KEPT)
        self.run("base", "-q", "busybox")
        self.run("build", "-q", "-t", "kept", "-f", "kept.Dockerfile", "context")
        self.ids = self.images()

    def loop(self, salt: str) -> list[list[str]]:
        """Everything that changes a store, once."""
        return [
            ["build", "-q", "--build-arg", f"SALT={salt}", "-t", "work", "--output=type=oci,dest=out.tar", "context"],
            ["tag", "work", "also"],
            ["save", "-o", "saved.tar", "also", "kept"],
            ["rmi", "work"],
            ["load", "-q", "-i", "saved.tar"],
            ["base", "-q", "busybox"],
            ["run", "--rm", "also", "sh", "-c", "echo more > /more; test -e /salt"],
            ["rmi", "also"],
        ]

    def images(self) -> dict[str, str]:
        """The id of every named image."""
        rows = self.run("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").out.split("\n")
        found = dict(row.split() for row in rows if row and "<none>" not in row)
        return found

    def check(self) -> None:
        """Nothing is damaged, lost, mounted, or left for a second look to find."""
        first = self.run("fsck")
        assert "damage" not in first.out, first.out
        second = self.run("fsck")
        assert second.out.count("\n") == 1, f"after the first fsck:\n{first.out}and then:\n{second.out}"
        assert " clean (" in second.out
        images = self.images()
        assert self.ids.items() <= images.items()
        assert images.keys() <= self.ids.keys() | {"work:latest", "also:latest"}
        assert mounts_below(self.home) == []
        left = set(os.listdir(self.directory))
        assert left <= {"context", "kept.Dockerfile", "out.tar", "saved.tar", "tmp", "count"}, left
        assert os.listdir(self.directory / "tmp") == []

    def tree(self, salt: str) -> dict[str, dict[str, Any]]:
        """Run the whole loop undisturbed and give the tree that was built."""
        done = self.start(self.loop(salt))
        assert done.code == 0, done.err
        return self.built(salt)

    def built(self, salt: str) -> dict[str, dict[str, Any]]:
        """The tree of the archive that the loop wrote, but for what differs with the salt, which is looked at here."""
        tree = merged_tree(read_image(self.directory / "out.tar").layers)
        text = f"{salt}\n".encode()
        wanted = f"{len(text)} {hashlib.sha256(text).hexdigest()[:16]}"
        assert (tree["/salt"].pop("content"), tree["/again"].pop("content")) == (wanted, wanted)
        return tree


def mounts_below(home: Path) -> list[str]:
    """Mounts at or of this place, in the mount namespace of any process that can be looked at."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found |= {line for line in place.read_text(errors="replace").splitlines() if str(home) in line}
        except OSError:
            continue
    return sorted(found)

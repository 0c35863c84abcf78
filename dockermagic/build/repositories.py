"""git repositories as sources: a reference becomes a commit, a commit becomes a directory.

What was fetched stays in a bare repository for each remote, so that a commit is fetched once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from dockermagic.build.gitcommand import Git, GitError, redacted
from dockermagic.build.locks import Lock
from dockermagic.build.request import BuildRequest
from dockermagic.build.selection import Tree, clean, resolve
from dockermagic.dockerfile.gitref import GitRef
from dockermagic.errors import BuildError, ContextError
from dockermagic.oci import lock
from dockermagic.sandbox.base import Cancel
from dockermagic.values import dataclass

__all__ = ["Commit", "Repositories"]

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Commit:
    """What a reference stands for: its full ``name`` on the remote ('' for a commit's own) and the commit's id.

    ``tag`` is the id of an annotated tag, '' where there is none.
    """

    id: str
    name: str = ""
    tag: str = ""


class Repositories:
    """The repositories that one build reads. ``folder`` is shared with other builds."""

    def __init__(self, folder: Path, request: BuildRequest, cancel: Cancel | None = None) -> None:
        self.folder = folder
        self.request = request
        self.cancel = cancel
        self._commits: dict[tuple[str, str], Commit] = {}
        self._lock = threading.Lock()

    def commit(self, ref: GitRef, checksum: str = "") -> Commit:
        """The commit that a reference stands for now; asked once a build.

        Raises :class:`BuildError` where the remote has no such reference, and where the commit is not the one of the
        checksum, a whole id or its beginning.
        """
        wanted = checksum or ref.checksum
        if wanted and not re.fullmatch(r"[0-9a-f]{7,64}", wanted):
            raise BuildError(
                f"invalid checksum {wanted} for Git source, expected hex commit hash", hint="Give the commit's id."
            )
        name = wanted if ref.fetch_by_commit and COMMIT.fullmatch(wanted) else ref.ref
        key = (ref.remote, name)
        with self._lock:
            if key not in self._commits:
                self._commits[key] = self._ask(ref.remote, name)
            found = self._commits[key]
        if wanted and not (found.id.startswith(wanted) or (found.tag and found.tag.startswith(wanted))):
            raise BuildError(
                f"expected checksum to match {wanted}, got {found.id}",
                hint="The reference has moved, or the checksum is wrong.",
            )
        return found

    def git(self, remote: str) -> Git:
        """git for a remote."""
        self.folder.mkdir(parents=True, exist_ok=True)
        url = f"https://{remote}" if remote.startswith("github.com/") else remote
        return Git(url, self.request, self.folder / "known_hosts", self.cancel)

    def _ask(self, remote: str, name: str) -> Commit:
        if COMMIT.fullmatch(name):
            return Commit(name)
        git = self.git(remote)
        if not name:
            head, target = "", ""
            for line in git("ls-remote", "--symref", "origin", "HEAD").splitlines():
                first, _, second = line.partition("\t")
                if second == "HEAD" and first.startswith("ref: "):
                    target = first[5:]
                elif second == "HEAD":
                    head = first
            if not head:
                raise BuildError(f"{redacted(remote)} has no default branch", hint="Name a branch: URL#branch.")
            return Commit(head, target or "HEAD")
        found = {}
        for line in git("ls-remote", "origin", name, f"{name}^{{}}").splitlines():
            identity, _, full = line.partition("\t")
            found[full] = identity
        bare = name.removeprefix("refs/")
        candidates = (
            f"refs/{bare}",
            f"refs/heads/{name.removeprefix('refs/heads/')}",
            f"refs/tags/{name.removeprefix('refs/tags/')}",
        )
        for full in candidates:  # as git's own checkout: a branch before a tag
            if full in found:
                peeled = found.get(f"{full}^{{}}", "")
                return Commit(peeled or found[full], full, found[full] if peeled else "")
        raise BuildError(
            f"repository does not contain ref {name}: {redacted(remote)}",
            hint="Name a branch, a tag or a whole commit id after the '#'.",
        )

    # fetching

    @contextlib.contextmanager
    def checkout(self, ref: GitRef, commit: Commit, *, keep_git_dir: bool = False) -> Iterator[Path]:
        """The files of a commit as a directory, which is gone when the block is left.

        It is the subdirectory where the reference names one. Submodules come along unless the reference says no.
        ``.git`` is in it only with ``keep_git_dir``. Raises :class:`BuildError`.
        """
        git = self.git(ref.remote)
        bare = self.folder / (hashlib.sha256(ref.remote.encode()).hexdigest()[:32] + ".git")
        with lock.temporary_directory(self.folder, "checkout-") as directory:
            with self._held(bare):
                self._fetch(git, bare, commit)
                self._fill(git, bare, commit, directory)
            if ref.submodules is not False and (directory / ".gitmodules").is_file():
                self._submodules(git, directory)
            if ref.mtime == "commit":
                _set_times(directory, int(git("log", "-1", "--format=%ct", commit.id, at=directory)))
            if keep_git_dir:
                git("config", "remote.origin.url", redacted(git.remote), at=directory)
                git("config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*", at=directory)
            else:
                _remove_git(directory)
            yield _below(directory, ref.subdir)

    def time(self, ref: GitRef, commit: Commit) -> float:
        """When the commit was made, in seconds."""
        git = self.git(ref.remote)
        bare = self.folder / (hashlib.sha256(ref.remote.encode()).hexdigest()[:32] + ".git")
        with self._held(bare):
            self._fetch(git, bare, commit)
            return float(git("log", "-1", "--format=%ct", commit.id, directory=bare))

    @contextlib.contextmanager
    def _held(self, bare: Path) -> Iterator[None]:
        held = Lock(self.folder / ".lock", bare.name)
        held.acquire(self.cancel)
        try:
            yield
        finally:
            held.release()

    def _fetch(self, git: Git, bare: Path, commit: Commit) -> None:
        """Have the commit in the bare repository: by its reference, else by its id, else with everything there is."""
        if not (bare / "HEAD").exists():
            git("init", "--quiet", "--bare", "--template=", str(bare), at=self.folder)
        problem: GitError | None = None
        attempts = [["--depth=1", commit.name]] if commit.name else []
        attempts += [["--depth=1", commit.id], ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]]
        for attempt in (None, *attempts):
            if attempt is not None:
                options = [word for word in attempt if word.startswith("--")]
                names = [word for word in attempt if not word.startswith("--")]
                if not options and (bare / "shallow").exists():
                    options = ["--unshallow"]
                try:
                    git("fetch", "--quiet", "--no-tags", "--force", *options, "origin", *names, directory=bare)
                except GitError as error:
                    problem = problem or error
                    continue
            with contextlib.suppress(GitError):
                git("cat-file", "-e", f"{commit.id}^{{commit}}", directory=bare)
                # A reference of its own keeps the commit, and lets a copy ask for it.
                git("update-ref", f"refs/dockermagic/{commit.id}", commit.id, directory=bare)
                return
        raise problem or BuildError(f"{redacted(git.remote)} does not have the commit {commit.id}")

    def _fill(self, git: Git, bare: Path, commit: Commit, directory: Path) -> None:
        git("init", "--quiet", "--template=", ".", at=directory)
        source = {"remote.origin.url": f"file://{bare}"}
        name = f"refs/dockermagic/{commit.id}"
        git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", name, at=directory, local=True, settings=source)
        git("checkout", "--quiet", "--force", "FETCH_HEAD", at=directory)
        for left in ("FETCH_HEAD", "ORIG_HEAD"):
            (directory / ".git" / left).unlink(missing_ok=True)
        shutil.rmtree(directory / ".git/logs", ignore_errors=True)

    def _submodules(self, git: Git, directory: Path) -> None:
        words = ("submodule", "--quiet", "update", "--init", "--recursive", "--force")
        try:
            git(*words, "--depth=1", at=directory)
        except GitError:  # a server that only gives what a branch names
            git(*words, at=directory)


def _remove_git(directory: Path) -> None:
    """Take the repositories out of a checkout: its own, and the links to those of submodules."""
    shutil.rmtree(directory / ".git")
    for root, folders, files in os.walk(directory):
        if ".git" in files:
            os.unlink(os.path.join(root, ".git"))
        if ".git" in folders:
            folders.remove(".git")
            shutil.rmtree(os.path.join(root, ".git"))


def _set_times(directory: Path, moment: int) -> None:
    for root, folders, files in os.walk(directory):
        for name in (*files, *folders):
            if name != ".git":
                os.utime(os.path.join(root, name), (moment, moment), follow_symlinks=False)
        folders[:] = [name for name in folders if name != ".git"]


def _below(directory: Path, subdir: str) -> Path:
    """The subdirectory, with links followed inside the checkout alone."""
    path = clean(subdir)
    if not path:
        return directory
    tree = Tree(str(directory))
    found = resolve(tree, path)
    status = None if found is None else os.lstat(directory / found)
    if found is None or status is None:
        raise ContextError(f"subdir {subdir!r} not found in the repository", hint="Check the part after the ':'.")
    if not stat.S_ISDIR(status.st_mode):
        raise ContextError(f"subdir {subdir!r} is not a directory", hint="Name a directory of the repository.")
    return directory / found

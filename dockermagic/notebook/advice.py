"""What to do about bytes that an image holds for nobody."""

from __future__ import annotations

__all__ = ["KNOWN", "advice"]

CACHE_MOUNT = "or keep it out of the layer: RUN --mount=type=cache,target="

KNOWN: tuple[tuple[str, str], ...] = (
    ("/var/lib/apt/lists", "apt's lists: end the RUN that updates them with rm -rf /var/lib/apt/lists/*"),
    ("/var/cache/apt", f"apt's packages: end the RUN with apt-get clean, {CACHE_MOUNT}/var/cache/apt"),
    ("/var/cache/apk", f"apk's packages: apk add --no-cache, {CACHE_MOUNT}/var/cache/apk"),
    ("/var/cache/dnf", f"dnf's packages: end the RUN with dnf clean all, {CACHE_MOUNT}/var/cache/dnf"),
    ("/root/.cache/pip", f"pip's cache: pip install --no-cache-dir, {CACHE_MOUNT}/root/.cache/pip"),
    ("/root/.npm", f"npm's cache: npm ci && npm cache clean --force, {CACHE_MOUNT}/root/.npm"),
    ("/root/.cache", f"a program's cache: remove it in the RUN that makes it, {CACHE_MOUNT}/root/.cache"),
    ("/tmp", "temporary files: remove them in the RUN that makes them"),
    ("/var/tmp", "temporary files: remove them in the RUN that makes them"),
    ("/var/log", "logs of the installation: remove them in the RUN that writes them"),
)
"""Directories that are often left behind, and how not to."""


def advice(path: str) -> str:
    """How a path that is stored more often than it is seen could be stored once."""
    for directory, words in KNOWN:
        if path == directory or path.startswith(f"{directory}/"):
            return words
    if path.endswith((".pyc", "/__pycache__")):
        return "compiled Python: set ENV PYTHONDONTWRITEBYTECODE=1 before it is run"
    return (
        "changed or removed in a later step: do it in the step that makes it "
        "(COPY --chmod or --chown, one RUN, or a stage of its own)"
    )

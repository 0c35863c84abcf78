"""``python -m dockermagic.notebook -f CONNECTION_FILE`` is the Dockerfile kernel."""

from __future__ import annotations

from dockermagic.notebook.kernel import launch

if __name__ == "__main__":
    launch()

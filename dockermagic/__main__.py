"""``python -m dockermagic``."""

from __future__ import annotations

import sys

from dockermagic.cli import main

if __name__ == "__main__":
    sys.exit(main())

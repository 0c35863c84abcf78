"""What atheris runs: bytes that grow by what they reach in the language's code. ``python -m tests.dockerfile.fuzz``.

Takes libFuzzer's options (``-max_total_time=3600``) and directories of texts to begin with. Ends with a status other
than 0 at the first text from which anything but the language's own error comes out, and leaves that text behind.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["dockermagic.dockerfile"]):
    from tests.dockerfile.test_any_text import everything


def one(data: bytes) -> None:
    everything(data.decode("utf-8", "surrogateescape"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()

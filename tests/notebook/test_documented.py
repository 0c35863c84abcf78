"""What README.md and the guide show, run as it is written."""

from __future__ import annotations

import re
from pathlib import Path

from tests.notebook.kernels import Kernel

REPO = Path(__file__).parents[2]

APP = """%%dockerfile -s app -t app -t app:old
FROM busybox
COPY --chmod=755 <<"END" /bin/python
#!/bin/sh
echo Python 3.13
END
WORKDIR /app
RUN echo 'print("hello")' > main.py
ENV PORT=8000
ENTRYPOINT ["python"]
CMD ["main.py"]
"""
"""An image, small and without a Python, of which the guide's claims are true."""


def blocks(page: str, wanted: str) -> list[str]:
    """A page's blocks of code in this language, '' for none."""
    text = (REPO / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)\n```$", text, flags=re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language == wanted]


def plain(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"\b(?:\d+\.\ds|\d+ms)\b *", "0.1s ", text)


def test_what_the_pages_show_is_so(home: Path, tmp_path: Path) -> None:
    (cell,), (load, output, ran) = blocks("README.md", "dockerfile"), blocks("README.md", "")
    command, *lines = ran.splitlines()
    with Kernel(home, tmp_path) as kernel:
        assert load == "%load_ext dockermagic"
        assert plain(kernel.run(cell, "cell").text) == plain(output)
        assert kernel.run(command, "run").text.splitlines()[: len(lines)] == lines
        assert "all CACHED" in kernel.run(cell, "cell").text

        (guide,) = blocks("docs/notebook-guide.md", "dockerfile")
        assert kernel.run(f"%%dockerfile -s guide\n{guide}", "guide").status == "ok"
        assert kernel.run(APP, "app").status == "ok"
        asked = kernel.run(blocks("docs/notebook-guide.md", "python")[0], "asked")
        assert (asked.status, asked.message, asked.text) == ("ok", "", "")

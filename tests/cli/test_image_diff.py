"""``image diff``: nothing for the same image, and the name of whatever differs for others."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Commands

pytestmark = [pytest.mark.engine, pytest.mark.alike]

DOCKERFILE = """\
FROM busybox
ARG WHAT
RUN mkdir /d && echo same > /d/same && echo $WHAT > /d/content && touch -d @$WHAT /d/time && chmod 6$WHAT /d/same
RUN ln -s $WHAT /link && if [ $WHAT = 11 ]; then touch /only; chown 5:6 /d/content; else echo longer > /gone; fi
ENV WHAT=$WHAT
"""


def test_what_differs_is_named(busybox: Commands) -> None:
    for what in ("11", "22"):
        busybox.build(DOCKERFILE, "-q", "-t", f"v{what}", "--build-arg", f"WHAT={what}")
    assert busybox("image", "diff", "v11", "v11").out == "The images are the same.\n"
    lines = busybox("image", "diff", "v22", "v11", code=1).out.splitlines()

    assert any(line.startswith('config config.Env: ["') and "WHAT=22" in line for line in lines)
    assert sum(line.startswith("layer ") for line in lines) == 2
    paths = {line.split()[1]: line for line in lines if line[:2] in ("A ", "C ", "D ")}
    assert paths["/only"] == "A /only"
    assert paths["/gone"] == "D /gone"
    assert "content" in paths["/d/content"]
    assert "owner" in paths["/d/content"]
    assert "time" in paths["/d/time"]
    assert "mode" in paths["/d/same"]
    assert "link" in paths["/link"]
    assert "/bin/busybox" not in paths

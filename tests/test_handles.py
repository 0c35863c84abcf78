"""Images in Python's hands, on the real engine."""

from __future__ import annotations

import io
import pydoc
from pathlib import Path

import pytest

from dockermagic import handles
from dockermagic.build.request import BuildRequest
from dockermagic.engine import Engine
from dockermagic.errors import ContainerError, ImageNotFoundError, UsageError
from dockermagic.handles import Image, Ran

TEXT = """FROM busybox
ENV GREETING=hello
WORKDIR /srv
RUN echo $GREETING > page && ln -s /srv/page /link && mkdir -m 700 folder
ENTRYPOINT ["echo", "entry"]
"""


@pytest.fixture
def engine(engine_home: Path) -> Engine:
    engine = Engine(engine_home)
    engine.base("busybox")
    engine.build(BuildRequest(TEXT, None, tags=("app",)))
    engine.build(BuildRequest(TEXT.replace("hello", "bye"), None, tags=("app:old",)))
    return engine


def test_an_image_answers(id_mode: str, engine: Engine, capfd: pytest.CaptureFixture[str]) -> None:
    with engine:
        app = Image(engine, "app")

        ran = app.run("cat page; echo oops >&2; exit 3")
        assert ran == Ran(3, "hello\n", "oops\n", ran.duration) and ran.duration > 0
        assert app.run(["words"]).stdout == "entry words\n"
        assert app.run("echo $A $(id -u)", env={"A": "b"}, user="7").stdout == "b 7\n"
        assert app.file("/srv/page").read_text() == app.file("link").read_text() == "hello\n"
        assert (app.file("srv/page").size, app.file("srv/folder").mode) == (6, 0o700)
        assert not app.file("/nothing").exists
        assert set(app.tree["srv"].entry.kind.split()) == {"directory"}
        assert "srv/page" in app.tree and "srv" in list(app.tree) and "nothing" not in app.tree
        assert app.env["GREETING"] == "hello" and app.config["WorkingDir"] == "/srv"
        assert [layer.created_by.split()[0] for layer in app.layers][-2:] == ["WORKDIR", "RUN"]
        assert app.history[0].created_by.startswith("ENTRYPOINT")
        diff = app.diff("app:old")
        changed = [(path.path, path.state) for path in diff.paths if path.what != ("time",)]
        assert changed == [("/srv/page", "changed")]
        assert [field.field for field in diff.fields if field.field.startswith("config")] == ["config.Env"]
        assert app.diff(app).is_empty
    assert capfd.readouterr() == ("", "")


def test_what_is_not_there_is_said(engine: Engine) -> None:
    with engine:
        app = Image(engine, "app")
        with pytest.raises(UsageError, match="there is no /nothing in the image"):
            app.file("/nothing").read_text()
        with pytest.raises(UsageError, match="/srv is a folder"):
            app.file("/srv").read_bytes()
        with pytest.raises(KeyError):
            app.tree["nothing"]
        with pytest.raises(ContainerError, match=r"had not ended after 0\.2s"):
            app.run("sleep 1000", timeout=0.2)
        with pytest.raises(ImageNotFoundError):
            Image(engine, "nothing").config  # noqa: B018
        assert repr(app.file("/nothing")) == "<file /nothing, which is not there>"
        assert repr(app) == "<image app>"


def test_help_reads_well() -> None:
    """Every public name says what it is."""
    out = io.StringIO()
    pydoc.Helper(output=out)(handles)

    assert "assert app.run" in out.getvalue()
    for made in (handles.Image, handles.Tree, handles.File):
        public = [value for name, value in vars(made).items() if not name.startswith("_") and name != "path"]
        assert [value for value in public if not value.__doc__] == []

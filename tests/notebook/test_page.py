"""The page's own code: its tests run by node, and the bundled module made of what it says."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dockermagic.errors import UsageError
from dockermagic.notebook import modules
from tests.notebook.labserver import ROOT

JS = ROOT / "js"


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_what_is_no_drawing_works(tmp_path: Path) -> None:
    shutil.copytree(modules.STATIC, tmp_path / modules.STATIC.relative_to(ROOT))
    shutil.copytree(JS / "files", tmp_path / "js/files")
    colours = Path("dockermagic/notebook/labextension/static/dockerfile.js")
    (tmp_path / colours).parent.mkdir(parents=True)
    shutil.copy(ROOT / colours, tmp_path / colours)
    tests = [str(shutil.copy(path, tmp_path / "js")) for path in JS.glob("*.test.js")]
    (tmp_path / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(["node", "--test", *tests], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", modules.NAMES)
def test_a_bundled_module_is_made_of_its_sources_as_they_stand(name: str) -> None:
    """Else: cd js && npm install && npm run build"""
    sources = [*sorted((JS / name).iterdir()), JS / "package.json"]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    first = (modules.STATIC / f"{name}.js").read_text(encoding="utf-8").split("\n", 1)[0]

    assert digest in first


@pytest.mark.parametrize("name", [*modules.NAMES, "card"])
def test_nothing_is_fetched_from_elsewhere(name: str) -> None:
    """No address in the page's code but those of namespaces and of the licences that the bundle has to name."""
    code = (modules.STATIC / f"{name}.js").read_text(encoding="utf-8")
    found = set(re.findall(r"(?:fetch|import)\(\s*[\"'`](https?:)?//", code))

    assert found == set()


def test_only_known_modules_are_handed_out() -> None:
    assert modules.text({"name": "files"}).startswith("//")
    with pytest.raises(UsageError, match="there is no module"):
        modules.text({"name": "../card"})

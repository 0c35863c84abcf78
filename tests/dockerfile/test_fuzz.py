"""The parser under atheris, which looks for inputs by what they reach; hypothesis is in test_any_text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dockermagic.dockerfile.instructions import KEYWORDS

REPO = Path(__file__).parents[2]
SEEDS = {
    "run": "# escape=`\nARG A=1\nFROM x:$A AS b\nRUN --mount=type=cache,target=/c <<-E cat `\n\n# c\nE\n",
    "copy": 'FROM x\nCOPY --from=b --chmod=g=u --exclude=*.md <<"E" a [b]* /c/\n$A ${B:-${C%%.*}}\nE\nADD ["a", "b"]\n',
    "rest": "FROM x\nENV A=\"b c\" D='e' F=${G//a/b}\nHEALTHCHECK --interval=1m CMD x\nONBUILD EXPOSE 1-9/udp\n",
}


@pytest.mark.slow
def test_fuzz(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="there is no atheris for this Python or processor")
    corpus, found = tmp_path / "corpus", tmp_path / "found"
    corpus.mkdir()
    found.mkdir()
    for name, text in SEEDS.items():
        (corpus / name).write_text(text)
    words = [*KEYWORDS, "--mount=", "<<E", "# escape=`", "${", ":-", "--from=", "# check="]
    (tmp_path / "words").write_text("".join(f'"{word}"\n' for word in words))
    options = ["-max_total_time=40", "-max_len=400", "-timeout=10", f"-dict={tmp_path}/words"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.dockerfile.fuzz", *options, f"-artifact_prefix={found}/", str(corpus)],
        cwd=REPO, capture_output=True, text=True,
    )  # fmt: skip

    left = [file.read_bytes() for file in found.iterdir()]
    assert (done.returncode, left) == (0, []), done.stderr[-3000:]

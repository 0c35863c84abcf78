"""Debian's docker-registry on a free port of the loopback."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path

from tests.peers import PeerUnavailable
from tests.peers.tools import find

CONFIG = """\
version: 0.1
log: {{level: info, formatter: text}}
storage:
  filesystem: {{rootdirectory: {directory}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:0"}}
{more}
"""


class Registry:
    """``address`` is ``127.0.0.1:PORT``, plain HTTP; ``directory`` holds its blobs; ``more`` is added to its config."""

    def __init__(self, directory: Path, more: str = "") -> None:
        self.directory = directory / "blobs"
        self.directory.mkdir(parents=True)
        config = directory / "config.yml"
        config.write_text(CONFIG.format(directory=self.directory, more=more))
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", find("docker-registry", "docker-registry"), "serve", str(config)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log: list[str] = []
        self.address = self._address()
        self._drain = threading.Thread(target=self._read, daemon=True)
        self._drain.start()

    def _address(self) -> str:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"listening on ([\d.]+:\d+)", line):
                return match[1]
        self.process.wait()
        raise PeerUnavailable(f"docker-registry did not start:\n{''.join(self.log[-5:])}")

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._drain.join()
        assert self.process.stderr
        self.process.stderr.close()

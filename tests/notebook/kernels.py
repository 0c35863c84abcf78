"""A real kernel on a store of its own, spoken to as a front end does: with cell ids, deleted cells and interrupts."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import KernelManager

PATIENCE = 60.0


class ThisPython(KernelSpecManager):
    """The only kernels there are: this interpreter's."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        module = ["-P", "-m", "dockermagic.notebook"] if kernel_name == "dockerfile" else ["-m", "ipykernel_launcher"]
        argv = [sys.executable, *module, "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


@dataclass
class Reply:
    """What came back for one cell; ``displays`` are the bundles as they stand at the end.

    ``marks`` are the ids of the cells that were said to be stale, None where nothing was said.
    """

    status: str = ""
    error: str = ""
    message: str = ""
    traceback: list[str] = field(default_factory=list)
    stdout: str = ""
    stderr: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    marks: list[str] | None = None

    @property
    def text(self) -> str:
        """All that a person reads in a console."""
        return "\n".join([self.stdout, *(bundle.get("text/plain", "") for bundle in self.displays)]).strip()


class Kernel:
    """A kernel and its client. A context manager. ``kernel_name``: dockerfile for the kernel that reads Dockerfiles."""

    kernel_name = "python3"

    def __init__(self, home: Path, folder: Path, *, notebook: str = "", name: str = "", **environment: str) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if key != "JPY_SESSION_NAME"}
        self.environment |= {"DOCKERMAGIC_HOME": str(home), "DOCKERMAGIC_WIDGETS": "0", **environment}
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(one for one in path if one)
        if notebook:
            self.environment["JPY_SESSION_NAME"] = notebook
        options = {"connection_file": str(folder / f"kernel-{name}.json")} if name else {}
        self.manager = KernelManager(kernel_name=self.kernel_name, kernel_spec_manager=ThisPython(), **options)
        self.places: dict[str, tuple[Reply, int]] = {}

    def __enter__(self) -> Kernel:
        self.manager.start_kernel(cwd=str(self.folder), env=self.environment, stderr=None)
        self._connect()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def _connect(self) -> None:
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        if self.kernel_name == "python3":
            loaded = self.run("%load_ext dockermagic")
            assert (loaded.status, loaded.text) == ("ok", "")

    def ask(self, kind: str, code: str, **content: Any) -> dict[str, Any]:
        """The reply to a request about a text: ``complete``, ``inspect``, ``is_complete``."""
        message = self.client.session.msg(f"{kind}_request", {"code": code, **content})
        self.client.shell_channel.send(message)
        while True:
            answer = self.client.get_shell_msg(timeout=PATIENCE)
            if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return dict(answer["content"])

    def restart(self) -> None:
        """A new process, as after 'Restart Kernel'."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()

    def interrupt(self) -> None:
        """The stop button."""
        self.manager.interrupt_kernel()

    def run(
        self,
        code: str,
        cell: str = "",
        *,
        deleted: tuple[str, ...] = (),
        watch: Callable[[Reply], None] = lambda reply: None,
        metadata: dict[str, Any] | None = None,
        allow_stdin: bool = False,
        page: bool = False,
    ) -> Reply:
        """Run a cell to its end. ``watch`` hears what there is after each message. ``page``: a browser runs it."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        content["allow_stdin"] = allow_stdin
        message = self.client.session.msg("execute_request", {**content, "stop_on_error": True})
        if page:
            message["msg_id"] = message["header"]["msg_id"] = uuid.uuid4().hex
        message["metadata"] = metadata if metadata is not None else {}
        if cell:
            message["metadata"] |= {"cellId": cell, "deletedCells": list(deleted)}
        began = time.monotonic()
        self.client.shell_channel.send(message)
        reply = Reply()
        while True:
            received = self.client.get_iopub_msg(timeout=PATIENCE)
            if received["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            kind, body = received["msg_type"], received["content"]
            if kind == "stream":
                setattr(reply, body["name"], getattr(reply, body["name"]) + body["text"])
            elif kind in ("display_data", "execute_result", "update_display_data"):
                place = (body.get("transient") or {}).get("display_id", "")
                if kind == "update_display_data":  # also of a cell that ran before
                    cell_reply, index = self.places[place]
                    cell_reply.displays[index] = body["data"]
                else:
                    self.places[place] = reply, len(reply.displays)
                    reply.displays.append(body["data"])
            elif kind == "comm_open" and body["target_name"] == "dockermagic":
                reply.marks = body["data"]["stale"]
            elif kind == "error":
                reply.error, reply.message, reply.traceback = body["ename"], body["evalue"], body["traceback"]
            elif kind == "status" and body["execution_state"] == "idle":
                break
            watch(reply)
        while True:
            answer = self.client.get_shell_msg(timeout=PATIENCE)
            if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                break
        reply.status = answer["content"]["status"]
        reply.seconds = time.monotonic() - began
        return reply


class DockerfileKernel(Kernel):
    """The kernel that reads Dockerfiles."""

    kernel_name = "dockerfile"

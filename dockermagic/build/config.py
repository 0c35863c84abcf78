"""The image config while a stage's instructions are folded into it, field by field as BuildKit writes it."""

from __future__ import annotations

import copy
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dockermagic.values import dataclass, field, replace

__all__ = ["DEFAULT_PATH", "StageConfig", "timestamp"]

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")
COMMENT = "buildkit.dockerfile.v0"


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, as image configs hold it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    fraction = f".{moment.microsecond:06d}".rstrip("0").rstrip(".")
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def quoted_list(words: Iterable[str]) -> str:
    """Strings as Go's ``%q`` prints a slice of them: ``["a" "b"]``."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"


@dataclass(slots=True)
class StageConfig:
    """One stage's config, history and variables.

    ``epoch`` is SOURCE_DATE_EPOCH. ``variables`` is the single namespace of ENV and ARG in which the last definition
    wins; ``args`` are the declared build args (None: declared, without a value). ``image`` is the OCI image config as a
    JSON value, without rootfs.
    """

    image: dict[str, Any]
    epoch: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    args: dict[str, str | None] = field(default_factory=dict)
    cmd_set: bool = False

    @classmethod
    def scratch(cls, os: str, architecture: str, variant: str, epoch: float | None) -> StageConfig:
        """The config of ``FROM scratch``."""
        image: dict[str, Any] = {"architecture": architecture, "os": os, "config": {"WorkingDir": "/"}}
        if variant:
            image["variant"] = variant
        return cls(image, epoch)._with_path()

    @classmethod
    def from_image(cls, config: Mapping[str, Any], epoch: float | None) -> StageConfig:
        """The config that a base image hands down: its history stays, its ONBUILD triggers are the caller's to take."""
        image = copy.deepcopy(dict(config))
        history = image.pop("history", None) or []
        image.pop("rootfs", None)
        image.pop("created", None)
        image["config"] = dict(image.get("config") or {})
        made = cls(image, epoch, history=list(history))
        for entry in made.config.get("Env") or []:
            name, _, value = entry.partition("=")
            made.variables[name] = value
        return made._with_path()

    def child(self) -> StageConfig:
        """What a stage that is FROM this one starts with: everything but ONBUILD triggers."""
        config = {name: copy.copy(value) for name, value in self.config.items() if name != "OnBuild"}
        return replace(
            self,
            image={**self.image, "config": config},
            history=list(self.history),
            variables=dict(self.variables),
            args=dict(self.args),
            cmd_set=False,
        )

    def _with_path(self) -> StageConfig:
        env = self.config.setdefault("Env", [])
        if env is None:
            env = self.config["Env"] = []
        if not any(entry.partition("=")[0] == "PATH" for entry in env):
            env.append(f"PATH={DEFAULT_PATH}")
            self.variables["PATH"] = DEFAULT_PATH
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The runtime part: Env, Cmd, ..."""
        config: dict[str, Any] = self.image["config"]
        return config

    @property
    def shell(self) -> tuple[str, ...]:
        """The words that run a shell form."""
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def workdir(self) -> str:
        """The absolute working directory."""
        return str(self.config.get("WorkingDir") or "/")

    def commit(self, created_by: str, *, layer: bool = False) -> None:
        """Add a history entry; without a layer it is marked ``empty_layer``."""
        entry: dict[str, Any] = {"created_by": created_by, "comment": COMMENT}
        if self.epoch is not None:
            entry["created"] = timestamp(self.epoch)
        if not layer:
            entry["empty_layer"] = True
        self.history.append(entry)

    def set_env(self, name: str, value: str) -> None:
        """ENV: replaces in place, else appends."""
        env: list[str] = self.config.setdefault("Env", [])
        entry, prefix = f"{name}={value}", f"{name}="
        # Whatever is in Env is a variable: a new one need not be looked for.
        places = (index for index, item in enumerate(env) if item.startswith(prefix) or item == name)
        place = next(places, None) if name in self.variables else None
        if place is None:
            env.append(entry)
        else:
            env[place] = entry
        self.variables[name] = value

    def absolute(self, path: str) -> str:
        """The path joined to WORKDIR and cleaned."""
        return posixpath.normpath("/" + posixpath.join(self.workdir, path)).replace("//", "/")

    def finished(self, layer_times: Sequence[float]) -> dict[str, Any]:
        """The whole image config but its rootfs. ``layer_times`` are those of all layers, bottom first, in seconds.

        Times come from the layers, as BuildKit takes them, so that a build from the cache gives the same image: an
        entry without a layer has the time of the layer before it, or of the first new one.
        """
        image = copy.deepcopy(self.image)
        history = [dict(entry) for entry in self.history]
        times = iter(layer_times)
        for entry in history:
            if not entry.get("empty_layer"):
                moment = next(times, None)
                if moment is not None and not entry.get("created"):
                    entry["created"] = timestamp(moment)
        created, missing = None, False
        for entry in history:
            if entry.get("created"):
                created = entry["created"]
                if missing:
                    break
            else:
                missing = True
        missing = False
        for entry in history:
            if not entry.get("created"):
                missing = True
                if created:
                    entry["created"] = created
            elif missing:
                created = entry["created"]
        stamps = [entry["created"] for entry in history if entry.get("created")]
        if self.epoch is not None:
            image["created"] = timestamp(self.epoch)
        elif stamps:
            image["created"] = stamps[-1]
        image["history"] = history
        return image

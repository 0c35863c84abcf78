"""The options of ``run`` and ``create``, and the request that they come to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from dockermagic.containers.request import (
    Bind,
    Health,
    Port,
    RunRequest,
    Tmpfs,
    parse_volume,
    signal_number,
)
from dockermagic.errors import UsageError
from dockermagic.sandbox.base import parse_ulimit
from dockermagic.values import replace
from dockermagic.verbs import values
from dockermagic.verbs.options import Arguments, Option, flag, many, text, unsupported

__all__ = ["OPTIONS", "env_file", "environment", "request_for"]


def env_file(path: str, known: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The lines of an ``--env-file``: ``NAME=value``, or ``NAME`` for what this process has; ``#`` begins a comment."""
    found: list[tuple[str, str | None]] = []
    for line in _file_lines(path, "env file"):
        name, equals, value = line.partition("=")
        if not name:
            raise UsageError(f"no variable name on line '{line}' of {path}")
        if any(letter.isspace() for letter in name):
            raise UsageError(f"variable '{name}' contains whitespaces, in {path}")
        if equals:
            found.append((name, value))
        elif name in known:
            found.append((name, known[name]))
    return found


def _file_lines(path: str, what: str) -> list[str]:
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{what} {path} contains invalid utf8 bytes") from None
    except OSError as error:
        raise UsageError(f"open {path}: {os.strerror(error.errno or 0).lower()}") from None
    lines = (line.lstrip() for line in content.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def environment(entries: tuple[str, ...], known: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """The values of ``-e``: ``NAME=value``; a name alone is taken from here, or removed where it is not set here."""
    found: list[tuple[str, str | None]] = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        found.append((name, value if equals else known.get(name)))
    return found


# -- values with a grammar of their own --------------------------------------------------------------------------------


def _env_entry(value: str) -> str:
    if not value.partition("=")[0]:
        raise ValueError(f"invalid environment variable: {value}")
    return value


def _label(value: str) -> str:
    if not value.partition("=")[0]:
        raise ValueError(f"invalid label '{value}': empty name")
    return value


def _network(value: str) -> str:
    if value not in ("host", "none", "default", "bridge"):
        raise ValueError(f"network '{value}' is not supported: there is bridge, host, none")
    return value


def _volume(value: str) -> str:
    parse_volume(value, Path.cwd())
    return value


def _number(value: str, what: str) -> int:
    if not value.isdigit() or not 0 < int(value) < 65536:
        raise ValueError(f"invalid {what}: {value}")
    return int(value)


def _range(value: str, what: str) -> range:
    first, dash, last = value.partition("-")
    start = _number(first, what)
    end = _number(last, what) if dash else start
    if end < start:
        raise ValueError(f"invalid range format for {what}: {value}")
    return range(start, end + 1)


def published(value: str) -> tuple[Port, ...]:
    """``[[IP:][HOST]:]CONTAINER[/PROTOCOL]``; raises ValueError.

    Ports may be ranges of one length; one port of the container may have any of a range of the host's.
    """
    rest, slash, protocol = value.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in ("tcp", "udp"):
        raise ValueError(f"invalid proto: {protocol}")
    address = ""
    if match := re.fullmatch(r"\[([0-9a-fA-F:.]+)\]:(.*)", rest):
        address, rest = match[1], match[2]
    parts = rest.split(":")
    if len(parts) == 3 and not address:
        address, *parts = parts
    if len(parts) > 2 or not parts[-1]:
        raise ValueError(f"invalid port specification: {value}" if parts[-1] else "no port specified: " + value)
    if address:
        try:
            _address(address)
        except ValueError:
            raise ValueError(f"invalid IP address: {address}") from None
    inside = _range(parts[-1], "containerPort")
    if len(parts) == 1 or not parts[0]:
        return tuple(Port(port, protocol, 0, address) for port in inside)
    outside = _range(parts[0], "hostPort")
    if len(inside) == 1 and len(outside) > 1:
        return (Port(inside[0], protocol, outside[0], address, outside[-1]),)
    if len(outside) != len(inside):
        raise ValueError(f"invalid ranges specified for container and host Ports: {parts[-1]} and {parts[0]}")
    return tuple(Port(port, protocol, host, address) for port, host in zip(inside, outside, strict=True))


def _exposed(value: str) -> str:
    number, _, protocol = value.partition("/")
    _range(number, "port")
    if protocol.lower() not in ("", "tcp", "udp"):
        raise ValueError(f"invalid proto: {protocol}")
    return value


def tmpfs(value: str) -> Tmpfs:
    """``PATH[:size=64m,mode=1777,uid=0,gid=0,exec,ro]``; raises ValueError."""
    target, _, options = value.partition(":")
    if not target.startswith("/") or target == "/":
        raise ValueError(f"invalid tmpfs path: '{target}' must be absolute and not '/'")
    found = Tmpfs(target)
    for option in filter(None, options.split(",")):
        key, _, given = option.partition("=")
        if key == "size":
            found = replace(found, size=values.size(given))
        elif key == "mode" and re.fullmatch("[0-7]{3,4}", given):
            found = replace(found, mode=int(given, 8))
        elif key == "uid" and re.fullmatch("[0-9]{1,9}", given):
            found = replace(found, uid=int(given))
        elif key == "gid" and re.fullmatch("[0-9]{1,9}", given):
            found = replace(found, gid=int(given))
        elif option in ("exec", "noexec"):
            found = replace(found, noexec=option == "noexec")
        elif option in ("ro", "rw"):
            found = replace(found, readonly=option == "ro")
        elif option not in ("nosuid", "nodev", "noatime"):
            raise ValueError(f'invalid tmpfs option ["{option}"]')
    return found


def mount(value: str) -> Bind | Tmpfs:
    """``type=bind|volume|tmpfs,source=...,target=...[,readonly]``; raises ValueError."""
    fields = values.comma_fields(re.sub(r"(^|,)(readonly|ro|volume-nocopy)(?=,|$)", r"\1\2=true", value))
    kind = fields.pop("type", "volume")
    target = next((found for name in ("target", "destination", "dst") if (found := fields.pop(name, ""))), "")
    source = fields.pop("source", "") or fields.pop("src", "")
    readonly = (fields.pop("readonly", "") or fields.pop("ro", "")) == "true"
    nocopy = fields.pop("volume-nocopy", "") == "true"
    size, mode = values.size(fields.pop("tmpfs-size", "0")), int(fields.pop("tmpfs-mode", "1777"), 8)
    if fields:
        raise ValueError(f"unexpected key '{next(iter(fields))}' in '{value}'")
    if not target.startswith("/") or target == "/":
        raise ValueError(f"invalid mount target, must be an absolute path in the container: '{target}'")
    if kind == "tmpfs":
        return Tmpfs(target, size, mode, readonly)
    if kind == "bind":
        if not os.path.lexists(source):
            raise ValueError(f'invalid mount config for type "bind": bind source path does not exist: {source}')
        return Bind(target, path=Path(source).absolute(), readonly=readonly, copy=False)
    if kind != "volume":
        raise ValueError(f"mount type unknown: '{kind}': there is bind, volume, tmpfs")
    parsed = parse_volume(f"{source}:{target}" if source else target, Path.cwd())
    return Bind(target, volume=parsed.volume, readonly=readonly, copy=not nocopy)


def _address(value: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"IP address is not correctly formatted: {value}") from None


def duration(value: str) -> float:
    """Go's durations, ``1m30s``, in seconds; raises ValueError."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    if value == "0":
        return 0.0
    if not re.fullmatch(r"(\d+(\.\d+)?(h|ms|us|ns|m|s))+", value):
        raise ValueError(f'invalid duration "{value}"')
    return sum(float(number) * units[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)(h|ms|us|ns|m|s)", value))


def _restart(value: str) -> tuple[str, int]:
    policy, colon, most = value.partition(":")
    if policy not in ("no", "on-failure", "always", "unless-stopped") or (colon and policy != "on-failure"):
        raise ValueError(f"invalid restart policy: unknown policy '{policy}'; use one of 'no', 'always', 'on-failure', "
                         "or 'unless-stopped'")  # fmt: skip
    if colon and not most.isdigit():
        raise ValueError("invalid restart policy: maximum retry count must be a number")
    return policy, int(most or 0)


def _pull(value: str) -> str:
    if value not in ("always", "missing", "never"):
        raise ValueError(f'invalid pull option: \'{value}\': must be one of "always", "missing" or "never"')
    return value


def _cpus(value: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", value):
        raise ValueError(f"failed to parse {value} as a rational number")
    most = os.cpu_count() or 1
    if float(value) and not 0.01 <= float(value) <= most:
        raise ValueError(f"range of CPUs is from 0.01 to {most:.2f}, as there are only {most} CPUs available")
    return float(value)


def _memory(value: str) -> int:
    found = values.size(value)
    if 0 < found < 6 << 20:
        raise ValueError("Minimum memory limit allowed is 6MB")
    return found


def _pids(value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"invalid number of processes: {value}")
    return max(0, int(value))


def _seconds(value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise ValueError(f"invalid number of seconds: {value}")
    return int(value)


def _count(value: str) -> int:
    if not re.fullmatch(r"\d+", value):
        raise ValueError(f"invalid number: {value}")
    return int(value)


def _pause(value: str) -> float:
    found = duration(value)
    if 0 < found < 0.001:
        raise ValueError("it cannot be less than 1ms")
    return found


def _labels(arguments: Arguments) -> dict[str, str]:
    lines = [line for path in arguments.many("label-file") for line in _file_lines(path, "label file")]
    return values.pairs([*lines, *arguments.many("label")])


def _health(arguments: Arguments) -> Health | None:
    names = ("interval", "timeout", "start-period", "start-interval", "retries")
    given = {name: arguments.text(f"health-{name}") for name in names if arguments.given(f"health-{name}")}
    if arguments.flag("no-healthcheck"):
        if given or arguments.given("health-cmd"):
            raise UsageError("--no-healthcheck conflicts with --health-* options")
        return Health(("NONE",))
    if not given and not arguments.given("health-cmd"):
        return None
    test = ("CMD-SHELL", arguments.text("health-cmd")) if arguments.given("health-cmd") else ()
    seconds = {name: duration(value) for name, value in given.items() if name != "retries"}
    return Health(
        test,
        interval=seconds.get("interval", 0.0),
        timeout=seconds.get("timeout", 0.0),
        start_period=seconds.get("start-period", 0.0),
        start_interval=seconds.get("start-interval", 0.0),
        retries=int(given.get("retries", "0")),
    )


def _mounts(arguments: Arguments) -> tuple[tuple[Bind, ...], tuple[Tmpfs, ...]]:
    mounts = [mount(value) for value in arguments.many("mount")]
    binds = [parse_volume(value, Path.cwd()) for value in arguments.many("volume")]
    binds += [one for one in mounts if isinstance(one, Bind)]
    in_memory = [tmpfs(value) for value in arguments.many("tmpfs")]
    in_memory += [one for one in mounts if isinstance(one, Tmpfs)]
    targets = [*(bind.target for bind in binds), *(one.target for one in in_memory)]
    if twice := next((target for target in targets if targets.count(target) > 1), ""):
        raise UsageError(f"Duplicate mount point: {twice}")
    return tuple(binds), tuple(in_memory)


def request_for(arguments: Arguments, stdin: int | None, known: Mapping[str, str]) -> RunRequest:
    """The words as a request; ``known`` is the environment that ``-e NAME`` reads."""
    env = [entry for path in arguments.many("env-file") for entry in env_file(path, known)]
    entrypoint: tuple[str, ...] | None = None
    if arguments.given("entrypoint"):
        entrypoint = (arguments.text("entrypoint"),) if arguments.text("entrypoint") else ()
    binds, in_memory = _mounts(arguments)
    policy, most = _restart(arguments.text("restart"))
    if arguments.flag("rm") and policy != "no":
        raise UsageError("conflicting options: cannot specify both --restart and --rm")
    network = arguments.text("net") if arguments.given("net") else arguments.text("network")
    publishes = arguments.many("publish") or arguments.flag("publish-all")
    is_hosts = network == "host" or (network == "default" and not publishes)
    if not is_hosts and any(value.endswith("host-gateway") for value in arguments.many("add-host")):
        raise UsageError(
            "--add-host: a network of the container's own does not lead to this machine",
            hint="With --network=host it does, and host-gateway is 127.0.0.1.",
        )
    return RunRequest(
        image=arguments.words[0],
        command=arguments.words[1:],
        entrypoint=entrypoint,
        env=tuple(env + environment(arguments.many("env"), known)),
        workdir=arguments.text("workdir"),
        user=arguments.text("user"),
        groups=arguments.many("group-add"),
        binds=binds,
        tmpfs=in_memory,
        tty=arguments.flag("tty"),
        stdin=stdin,
        open_stdin=arguments.flag("interactive"),
        hostname=arguments.text("hostname"),
        read_only=arguments.flag("read-only"),
        network=network,
        ports=tuple(port for value in arguments.many("publish") for port in published(value)),
        publish_all=arguments.flag("publish-all"),
        expose=arguments.many("expose"),
        name=arguments.text("name"),
        remove=arguments.flag("rm"),
        add_hosts=tuple(values.host_entry(value) for value in arguments.many("add-host")),
        dns=arguments.many("dns"),
        dns_search=arguments.many("dns-search"),
        dns_options=arguments.many("dns-option"),
        shm_size=values.size(arguments.text("shm-size")),
        labels=_labels(arguments),
        cap_add=("ALL",) if arguments.flag("privileged") else arguments.many("cap-add"),
        cap_drop=arguments.many("cap-drop"),
        ulimits=tuple(parse_ulimit(value) for value in arguments.many("ulimit")),
        memory=_memory(arguments.text("memory")) if arguments.given("memory") else 0,
        cpus=_cpus(arguments.text("cpus")) if arguments.given("cpus") else 0.0,
        pids=_pids(arguments.text("pids-limit")) if arguments.given("pids-limit") else 0,
        restart=policy,
        restart_max=most,
        stop_signal=arguments.text("stop-signal"),
        stop_timeout=_seconds(arguments.text("stop-timeout")),
        health=_health(arguments),
        init=arguments.flag("init"),
        debug_image=arguments.text("debug-image"),
        pull=_pull(arguments.text("pull")),
    )


_REFUSED = {
    "a container runs on this machine's own platform.": "platform isolation runtime",
    "a container sees no devices of the host.": "device device-cgroup-rule gpus",
    "containers reach each other through published ports.": "ip ip6 link link-local-ip mac-address network-alias",
    "its namespaces are its own; --network chooses the one of the network.": "cgroupns ipc pid userns uts",
    "there are --memory, --cpus and --pids-limit.": (
        "blkio-weight cgroup-parent cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems memory-reservation"
        " memory-swap memory-swappiness oom-kill-disable oom-score-adj"
    ),
    "no setting of the kernel can be changed from here.": "sysctl",
    "its profile is Docker's default one, --privileged is without.": "security-opt",
    "the log is kept in files, `logs` reads it.": "log-driver log-opt",
    "the same -v gives the same volume to several containers.": "volume-driver volumes-from",
    "its id is what `create` and `run -d` print.": "cidfile",
    "--hostname names it.": "domainname",
    "a container in the foreground ends with its command: `run -d`, then `attach --sig-proxy=false`.": "sig-proxy",
}
"""What Docker has and is refused here, by the reason."""
OPTIONS: tuple[Option, ...] = (
    many("add-host", "", "Add a custom host-to-IP mapping (host:ip)", check=values.host_entry),
    many("cap-add", "", "Add Linux capabilities"),
    many("cap-drop", "", "Drop Linux capabilities"),
    text("cpus", "", "Number of CPUs", value="decimal", check=_cpus),
    text("debug-image", "", "Mount the root filesystem of another image at /.debug, with its programs last in PATH"),
    many("dns", "", "Set custom DNS servers", check=_address),
    many("dns-option", "", "Set DNS options"),
    many("dns-search", "", "Set custom DNS search domains"),
    text("entrypoint", "", "Overwrite the default ENTRYPOINT of the image"),
    many("env", "e", "Set environment variables", check=_env_entry),
    many("env-file", "", "Read in a file of environment variables"),
    many("expose", "", "Expose a port or a range of ports", check=_exposed),
    many("group-add", "", "Add additional groups to join"),
    text("health-cmd", "", "Command to run to check health"),
    text("health-interval", "", "Time between running the check (ms|s|m|h)", value="duration", check=_pause),
    text("health-retries", "", "Consecutive failures needed to report unhealthy", value="int", check=_count),
    text("health-start-interval", "", "Time between checks during the start period", value="duration", check=_pause),
    text("health-start-period", "", "Start period before retries count", value="duration", check=_pause),
    text("health-timeout", "", "Maximum time to allow one check to run", value="duration", check=_pause),
    text("hostname", "h", "Container host name"),
    flag("init", "", "Run an init inside the container that forwards signals and reaps processes"),
    flag("interactive", "i", "Keep STDIN open even if not attached"),
    many("label", "l", "Set meta data on a container", check=_label),
    many("label-file", "", "Read in a line delimited file of labels"),
    text("memory", "m", "Memory limit", value="bytes", check=_memory),
    many("mount", "", "Attach a filesystem mount to the container", value="mount", check=mount),
    text("name", "", "Assign a name to the container"),
    text("network", "", "Network of the container: bridge, host or none", default="default", check=_network),
    text("net", "", check=_network, hidden=True),
    flag("no-healthcheck", "", "Disable any container-specified HEALTHCHECK"),
    text("pids-limit", "", "Limit the number of processes (-1 for unlimited)", value="int", check=_pids),
    flag("privileged", "", "Give all capabilities that the sandbox itself has"),
    many("publish", "p", "Publish a container's port(s) to the host", check=published),
    flag("publish-all", "P", "Publish all exposed ports to random ports"),
    text("pull", "", 'Pull image before running ("always", "missing", "never")', default="missing", check=_pull),
    flag("read-only", "", "Mount the container's root filesystem as read only"),
    text("restart", "", "Restart policy to apply when a container exits", default="no", check=_restart),
    flag("rm", "", "Automatically remove the container when it exits"),
    text("shm-size", "", "Size of /dev/shm", value="bytes", default="64m", check=values.size),
    text("stop-signal", "", "Signal to stop the container", check=signal_number),
    text("stop-timeout", "", "Seconds to wait before killing the container", value="int", default="10", check=_seconds),
    many("tmpfs", "", "Mount a tmpfs directory", check=tmpfs),
    flag("tty", "t", "Allocate a pseudo-TTY"),
    many("ulimit", "", "Ulimit options", value="ulimit", check=parse_ulimit),
    text("user", "u", "Username or UID (format: <name|uid>[:<group|gid>])"),
    many("volume", "v", "Bind mount a directory, or a named volume", check=_volume),
    text("workdir", "w", "Working directory inside the container"),
    flag("quiet", "q", "Suppress the pull output"),
    unsupported("attach", "a", "its output is always shown, unless -d is given; -i gives it input."),
    *(unsupported(name, "", reason) for reason, names in _REFUSED.items() for name in names.split()),
)

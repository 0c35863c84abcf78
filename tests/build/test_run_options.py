"""What a build says about how its RUNs run: hosts, limits, memory, network, privileges, certificates."""

from __future__ import annotations

import ssl
import subprocess
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from dockermagic.build.request import Secret
from dockermagic.build.trust import VARIABLES
from dockermagic.errors import BuildError, DockerfileSyntaxError, UsageError
from tests.build.kit import Bench, cached, write

IPV6 = "2001:db8::1"


def test_added_hosts(bench: Bench) -> None:
    """--add-host stands in /etc/hosts of a RUN alone, and is part of its key."""
    text = "FROM busybox\nRUN grep -E 'one|two' /etc/hosts\n"
    hosts = (("one", "10.0.0.1"), ("two", IPV6))
    printed = bench.printed(text, add_hosts=hosts)

    assert printed.splitlines() == ["10.0.0.1\tone", f"{IPV6}\ttwo"]
    assert cached(bench.build(text, add_hosts=hosts)) == "C"
    assert bench.printed("FROM busybox\nRUN grep -c one /etc/hosts || echo none\n").endswith("none\n")


def test_limits(bench: Bench) -> None:
    """--ulimit sets soft and hard limits."""
    text = "FROM busybox\nRUN ulimit -Sn; ulimit -Hn; ulimit -Sf\n"

    assert bench.printed(text, ulimits=("nofile=64:128", "fsize=8192")) == "64\n128\n16\n"


def test_malformed_limit(bench: Bench) -> None:
    with pytest.raises(BuildError, match="invalid ulimit argument: nofile=x"):
        bench.build("FROM busybox\nRUN true\n", ulimits=("nofile=x",))


def test_shared_memory(bench: Bench) -> None:
    """/dev/shm has 64 MB, or what --shm-size says."""
    text = "FROM busybox\nRUN df -k /dev/shm | awk 'NR == 2 {print $2}'\n"

    assert bench.printed(text) == "65536\n"
    assert bench.printed(text, shm_size=1 << 20) == "1024\n"


@pytest.mark.parametrize(
    ("flag", "request_", "alone"),
    [
        ("", "default", False),
        ("--network=none ", "default", True),
        ("", "none", True),
        ("--network=host ", "none", False),
    ],
)
def test_network(bench: Bench, flag: str, request_: str, alone: bool) -> None:
    """Without a network there is the loopback interface, up; the instruction beats the build."""
    text = f"FROM busybox\nRUN {flag}ls /sys/class/net; cat /sys/class/net/lo/flags\n"
    interfaces = bench.printed(text, network=request_).split()

    assert "lo" in interfaces
    assert interfaces[-1] == "0x9"
    assert not alone or interfaces == ["lo", "0x9"]


def test_privileges(bench: Bench) -> None:
    """A RUN has Docker's capabilities; --security=insecure has them all."""
    text = "FROM busybox\nRUN --security={} awk '/CapEff/ {{print $2}}' /proc/self/status\n"
    sandboxed = int(bench.printed(text.format("sandbox")), 16)
    insecure = int(bench.printed(text.format("insecure")), 16)
    sys_admin = 1 << 21

    assert not sandboxed & sys_admin
    assert insecure & sys_admin
    assert sandboxed & insecure == sandboxed


@pytest.mark.parametrize("flag", ["--network=bridge", "--security=none", "--network=", "--security"])
def test_unknown_values(bench: Bench, flag: str) -> None:
    with pytest.raises(DockerfileSyntaxError) as caught:
        bench.build(f"FROM busybox\nRUN {flag} true\n")
    assert caught.value.line == 2


def test_host_name(bench: Bench) -> None:
    """The build argument beats the option."""
    text = "FROM busybox\nRUN hostname; grep -c mine /etc/hosts; true\n"

    assert bench.printed(text).startswith("buildkitsandbox\n")
    assert bench.printed(text, hostname="mine") == "mine\n1\n"
    arguments = {"BUILDKIT_SANDBOX_HOSTNAME": "mine"}
    assert bench.printed(text, hostname="x", build_args=arguments, no_cache=True) == "mine\n1\n"


def test_mount_on_shared_memory_replaces_it(bench: Bench) -> None:
    """One mount is left there, with the options that were asked for."""
    text = "FROM busybox\nRUN --mount=type=tmpfs,target=/dev/shm,size=128m grep /dev/shm /proc/mounts\n"
    lines = bench.printed(text).splitlines()

    assert len(lines) == 1
    assert lines[0].startswith("tmpfs /dev/shm tmpfs rw,nosuid,nodev,relatime,size=131072k")


def test_scripts_can_be_executed(bench: Bench) -> None:
    """A here-document that begins with #! is a program; with <<- also after its tabs; it is in no layer."""
    text = (
        'FROM busybox\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print "one" }\nEOF\n'
        'RUN <<-EOF\n\t#!/bin/awk -f\n\tBEGIN { print "two" }\nEOF\nRUN ls /dev/pipes || echo gone\n'
    )
    assert bench.printed(text).replace("ls: /dev/pipes: No such file or directory\n", "") == "one\ntwo\ngone\n"


def test_secrets_cannot_be_executed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("#!/bin/sh\necho ran\n")
    text = "FROM busybox\nRUN --mount=type=secret,id=s,mode=0555 /run/secrets/s || echo refused\n"
    readable = "FROM busybox\nRUN --mount=type=secret,id=s mount | grep secrets | grep -o noexec\n"

    assert bench.printed(text, secrets={"s": Secret(tmp_path / "s")}).endswith(("ran\n", "refused\n"))
    assert bench.printed(readable, secrets={"s": Secret(tmp_path / "s")}) == "noexec\n"


def test_parallel_cache_mounts(bench: Bench) -> None:
    """A cache that two stages want for the first time at once is made once, and both see the same."""
    stage = (
        "FROM busybox AS s{0}\nRUN --mount=type=cache,target=/c --mount=type=cache,target=/c/d echo {0} > /c/d/{0}\n"
    )
    copies = "".join(f"COPY --from=s{number} /etc/passwd /p{number}\n" for number in range(6))
    bench.build("".join(map(stage.format, range(6))) + "FROM busybox\n" + copies)

    text = "FROM busybox\nRUN --mount=type=cache,target=/c/d cat /c/d/?\n"
    assert sorted(bench.printed(text).split()) == [str(number) for number in range(6)]


# certificates


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate of its own authority for localhost, and beside it its key."""
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem")]
    subprocess.run(words, check=True, capture_output=True)
    return tmp_path / "ca.pem"


def certificate(path: Path) -> str:
    return path.read_text().strip().split("\n")[1]


def test_certificates_for_a_run(bench: Bench, authority: Path) -> None:
    """Beside those of the image, in its files and in variables; in no layer, history or key."""
    image = "FROM busybox\nRUN mkdir -p /etc/ssl/certs && echo the-image > /etc/ssl/certs/ca-certificates.crt "
    image += "&& ln -s certs/ca-certificates.crt /etc/ssl/cert.pem\n"
    text = image + "ENV PIP_CERT=/mine\nRUN cat $SSL_CERT_FILE /etc/ssl/cert.pem; env; ! echo x > /etc/ssl/cert.pem\n"
    result = bench.build(text, ca=authority, tags=("made",))
    printed = bench.output()

    assert printed.count("the-image") == 2
    assert printed.count(certificate(authority)) == 2
    assert "PIP_CERT=/mine\n" in printed
    assert all(f"{name}=/" in printed for name in VARIABLES)
    assert certificate(authority) not in repr(bench.engine.inspect("made")) + repr(bench.engine.history("made"))
    layers = [Path(path) for path in bench.engine.files.directories(result.stages[0].snapshots)]
    assert list(layers[-1].iterdir()) == []
    assert cached(bench.build(text)) == "CC"
    assert "SSL_CERT_FILE" not in bench.printed("FROM made\nRUN env; cat /etc/ssl/cert.pem\n")
    assert bench.output().endswith("the-image\n")


def test_certificates_by_default(bench: Bench, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERMAGIC_CA", str(authority))

    assert certificate(authority) in bench.printed("FROM busybox\nRUN cat $CURL_CA_BUNDLE; ls /etc/ssl; true\n")
    assert "No such file" in bench.output()


def test_a_command_that_writes_the_bundle_can(bench: Bench, authority: Path) -> None:
    """Nothing is mounted where it renames its new file to."""
    text = "FROM busybox\nRUN mkdir -p /etc/ssl/certs && echo old > /etc/ssl/certs/ca-certificates.crt\n"
    text += "RUN : update-ca-certificates; cd /etc/ssl/certs && echo new > x && mv x ca-certificates.crt\n"

    assert bench.printed(text + "RUN cat /etc/ssl/certs/*\n", ca=authority).count("new") == 1


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read the certificates"), ("x", "holds no certificate")]
)
def test_no_certificates(bench: Bench, tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        write(tmp_path, {"ca": content})
    with pytest.raises(UsageError, match=message):
        bench.build("FROM busybox\n", ca=tmp_path / "ca")


def test_add_trusts_them_too(bench: Bench, authority: Path, tmp_path: Path) -> None:
    """ADD fetches from a server that only these certificates vouch for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_name("key.pem"))
    write(tmp_path / "www", {"file": "over tls\n"})

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def log_message(self, format: str, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            text = f"FROM busybox\nADD https://localhost:{server.server_port}/file /f\nRUN cat /f\n"
            with pytest.raises(BuildError, match="certificate"):
                bench.build(text)
            assert bench.printed(text, ca=authority) == "over tls\n"
        finally:
            server.shutdown()
            thread.join()

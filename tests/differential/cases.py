# ruff: noqa: E501  (a Dockerfile on one line is easier to read than one in pieces)
"""Dockerfiles of our own, each with the context it wants: what Docker makes of them is the truth.

All build on the busybox archive of :mod:`tests.peers.images`. A context maps paths to what is there: text, bytes, or one
of the values below.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@dataclass(frozen=True)
class File:
    content: str | bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Directory:
    mode: int = 0o755


@dataclass(frozen=True)
class Link:
    """A symbolic link, or a hard one to another path of the context."""

    target: str
    hard: bool = False


Item = str | bytes | File | Directory | Link


@dataclass(frozen=True)
class Case:
    """``arguments`` are options that both builds are given. ``fails``: both must refuse."""

    name: str
    dockerfile: str
    context: dict[str, Item] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    fails: bool = False

    def write(self, directory: Path) -> Path:
        """Lay the context out, with modes whatever the umask."""
        directory.mkdir()
        directory.chmod(0o755)
        for name, item in {"Dockerfile": self.dockerfile, **self.context}.items():
            path = directory / name
            for parent in reversed(path.relative_to(directory).parents[:-1]):
                if not (directory / parent).exists():
                    (directory / parent).mkdir()
                    (directory / parent).chmod(0o755)
            match item:
                case Directory(mode):
                    path.mkdir(exist_ok=True)
                    path.chmod(mode)
                case Link(target, True):
                    path.hardlink_to(directory / target)
                case Link(target):
                    path.symlink_to(target)
                case _:
                    file = item if isinstance(item, File) else File(item)
                    path.write_bytes(file.content.encode() if isinstance(file.content, str) else file.content)
                    path.chmod(file.mode)
        return directory


def archive(suffix: str = "") -> bytes:
    """A small tar with owners, modes, links and a directory, compressed as ``suffix`` says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, mode, owner, content in (
            ("inside", tarfile.DIRTYPE, 0o750, 7, ""),
            ("inside/file", tarfile.REGTYPE, 0o640, 1000, "from the archive\n"),
            ("inside/link", tarfile.SYMTYPE, 0o777, 0, "file"),
            ("inside/hard", tarfile.LNKTYPE, 0o640, 1000, "inside/file"),
            ("run.sh", tarfile.REGTYPE, 0o4755, 0, "#!/bin/sh\n"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, owner, owner, 1_000_000_000
            data = content.encode()
            if kind == tarfile.REGTYPE:
                info.size = len(data)
            else:
                info.linkname = content
            tar.addfile(info, io.BytesIO(data) if kind == tarfile.REGTYPE else None)
    data = out.getvalue()
    match suffix:
        case "gz":
            return gzip.compress(data, mtime=0)
        case "bz2":
            return bz2.compress(data)
        case "xz":
            return lzma.compress(data)
        case "zst":
            return zstd.compress(data)
    return data


TREE: dict[str, Item] = {
    "a.txt": "a\n",
    "b.txt": File("b\n", 0o600),
    "run.sh": File("#!/bin/sh\necho hi\n", 0o755),
    "dir/one.txt": "1\n",
    "dir/two.md": "2\n",
    "dir/sub/three.txt": "3\n",
    "dir/empty": Directory(0o700),
    "dir/link": Link("one.txt"),
    "dir/up": Link("../a.txt"),
    "link": Link("a.txt"),
    "linked-dir": Link("dir"),
    "with space.txt": "s\n",
    "ünïcode.txt": "u\n",
}


def case(name: str, dockerfile: str, context: dict[str, Item] | None = None, *arguments: str) -> Case:
    return Case(name, f"FROM busybox\n{dockerfile}\n", TREE if context is None else context, arguments)


def refused(name: str, dockerfile: str, context: dict[str, Item] | None = None, *arguments: str) -> Case:
    return Case(name, f"FROM busybox\n{dockerfile}\n", TREE if context is None else context, arguments, fails=True)


def whole(name: str, dockerfile: str, context: dict[str, Item] | None = None, *arguments: str) -> Case:
    return Case(name, dockerfile, TREE if context is None else context, arguments)


RUN = [
    case("run-shell", "RUN echo hi > /x && echo $((1+2)) >> /x"),
    case("run-exec", 'RUN ["touch", "/a b", "/$HOME"]'),
    case("run-heredoc", 'RUN <<EOF\necho "one" > /x\necho two >> /x\nEOF'),
    case("run-heredoc-quoted", "ENV A=1\nRUN <<'EOF'\necho $A > /x\nEOF"),
    case("run-heredoc-shebang", "RUN <<EOF\n#!/bin/ash\necho $0 | head -c 5 > /x\nEOF"),
    case("run-heredoc-stdin", "RUN cat > /x <<EOF\nhello\nEOF"),
    case("run-heredoc-tabs", "RUN <<-EOF\n\techo tab > /x\n\tEOF"),
    case("env-without-a-name", 'ARG A\nENV ""=1 A=1\nENV $A=2\nLABEL ""=x "a b"=c $A=y', {}),
    refused("env-without-a-name-in-a-run", 'ENV ""=1\nRUN true', {}),
    case("run-environment", "ENV A=1 B='two words'\nARG C=3\nRUN env | sort | grep -v -e HOSTNAME -e PWD > /env"),
    case("run-user", "USER nobody\nWORKDIR /tmp\nRUN id > /tmp/id && touch /tmp/mine"),
    case("run-user-and-group", "USER 33:100\nRUN touch /tmp/mine && id -u > /tmp/u && id -g > /tmp/g"),
    case("run-home", "USER www-data\nRUN echo $HOME > /tmp/home"),
    case("run-directory", "WORKDIR /srv/x\nRUN pwd > pwd && touch here"),
    case("run-umask", "RUN umask > /umask && touch /file && mkdir /directory"),
    case("run-delete", "RUN rm /etc/group && rm -r /var/www"),
    case("run-delete-own", "RUN mkdir /d && touch /d/a /d/b\nRUN rm /d/a\nRUN rm -r /d"),
    case("run-replace-directory", "RUN mkdir /d && touch /d/a /d/b\nRUN rm -r /d && mkdir /d && touch /d/c"),
    case("run-file-for-directory", "RUN mkdir /d && touch /d/a\nRUN rm -r /d && echo f > /d"),
    case("run-directory-for-file", "RUN echo f > /d\nRUN rm /d && mkdir /d && touch /d/a"),
    case("run-rename-directory", "RUN mkdir -p /d/e && touch /d/e/f\nRUN mv /d /moved"),
    case("run-append", "RUN echo more >> /etc/passwd"),
    case("run-chmod", "RUN chmod 600 /etc/group && chmod 1770 /var/www"),
    case("run-chown", "RUN chown 1000:1001 /etc/group && touch /f && chown nobody:mail /f && mkdir /d && chown 7 /d"),
    case("run-special-modes", "RUN touch /s /g && chmod 4755 /s && chmod 2755 /g && mkdir /t && chmod 1777 /t"),
    case("run-links", "RUN echo x > /a && ln /a /b && ln -s a /c && ln -s /nowhere /d"),
    case("run-link-to-lower", "RUN ln /etc/group /group && ln -s ../etc/passwd /root/passwd"),
    case("run-link-owners", "RUN ln -s /nowhere /l && chown -h 33:33 /l"),
    case("run-fifo", "RUN mkfifo -m 640 /pipe"),
    case("run-long-names", f"RUN mkdir -p /{'d' * 90}/{'e' * 90} && touch /{'d' * 90}/{'e' * 90}/{'f' * 90}"),
    case("run-odd-names", "RUN touch '/a b' '/-x' '/ü' '/back\\\\slash' '/.wh' \"/quo'te\""),
    case("run-nothing", "RUN true\nRUN\nRUN --network=none\nCMD"),
    case("run-touch-directory", "RUN touch -d 2000-01-01 /etc"),
    case("run-continued", "RUN echo a \\\n  # a comment\n  && echo b > /x \\\n\n  && echo c >> /x"),
    case("run-tmpfs", "RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x && ls /scratch > /x"),
    case("run-bind-context", "RUN --mount=type=bind,target=/ctx cp /ctx/a.txt /copied"),
    case("run-bind-writable", "RUN --mount=type=bind,rw,target=/ctx touch /ctx/new && ls /ctx > /listing"),
    case("run-cache", "RUN --mount=type=cache,target=/cache echo x > /cache/x\nRUN ls -d /cache > /x 2>&1 || true"),
    case("run-network-none", "RUN --network=none ls /sys/class/net | sort > /net"),
    case("run-given-files", "RUN test -s /etc/hosts && test -e /etc/resolv.conf && echo ok > /x"),
    case("run-processes", "RUN sleep 100 & echo $$ > /pid"),
    case("run-stdin-is-empty", "RUN cat > /x"),
    case("run-large", "RUN dd if=/dev/zero of=/zero bs=1M count=8 2>/dev/null"),
    refused("run-fails", "RUN exit 3"),
    refused("run-not-found", "RUN no-such-command"),
    refused("run-exec-not-found", 'RUN ["/no/such"]'),
    refused("run-unknown-user", "USER ghost\nRUN true"),
]

COPY = [
    case("copy-file", "COPY a.txt /"),
    case("copy-file-renamed", "COPY a.txt /renamed"),
    case("copy-to-new-directory", "COPY a.txt /new/deep/"),
    case("copy-to-new-path", "COPY a.txt /new/deep/file"),
    case("copy-several", "COPY a.txt b.txt run.sh /several/"),
    case("copy-directory", "COPY dir /dir"),
    case("copy-directory-slash", "COPY dir/ /etc/"),
    case("copy-directories", "COPY dir linked-dir /both/"),
    case("copy-everything", "COPY . /all/"),
    case("copy-to-root", "COPY . /"),
    case("copy-dot-dot", "COPY ../a.txt dir/../b.txt /x/"),
    case("copy-absolute-source", "COPY /a.txt /dir/one.txt /x/"),
    case("copy-glob", "COPY *.txt /x/"),
    case("copy-glob-one", "COPY a.* /x"),
    case("copy-glob-deep", "COPY dir/*.txt dir/s* /x/"),
    case("copy-glob-class", "COPY [ab].tx? /x/"),
    case("copy-glob-directories", "COPY d* /x/", {"d1/a": "a", "d2/b": "b", "d3": "c"}),
    case("copy-link", "COPY link /x/"),
    case("copy-link-renamed", "COPY link /x"),
    case("copy-linked-directory", "COPY linked-dir /x"),
    case("copy-through-linked-directory", "COPY linked-dir/one.txt /x"),
    case("copy-json", 'COPY ["with space.txt", "ünïcode.txt", "/x y/"]'),
    case("copy-variable", "ENV D=/x F=a\nCOPY ${F}.txt $D/${F:+set}.txt"),
    case("copy-relative", "WORKDIR /srv\nCOPY a.txt rel\nCOPY b.txt ./sub/"),
    case("copy-dot", "WORKDIR /srv\nCOPY a.txt ."),
    case("copy-over-file", "RUN echo old > /x && chmod 700 /x && chown 5:5 /x\nCOPY a.txt /x"),
    case("copy-into-directory", "RUN mkdir /x\nCOPY a.txt /x"),
    case("copy-merges", "RUN mkdir -p /x/sub && chmod 700 /x && touch /x/keep /x/sub/keep\nCOPY dir /x"),
    case("copy-over-link", "RUN ln -s /target /x\nCOPY a.txt /x"),
    case("copy-to-linked-directory", "RUN mkdir /real && ln -s real /x\nCOPY a.txt /x/"),
    case("copy-directory-to-linked-directory", "RUN mkdir /real && ln -s /real /x\nCOPY dir /x"),
    case("copy-chown-numbers", "COPY --chown=1000:1001 dir /x"),
    case("copy-chown-user", "COPY --chown=1000 a.txt /new/x"),
    case("copy-chown-names", "COPY --chown=www-data:mail dir /x"),
    case("copy-chown-name", "COPY --chown=nobody a.txt /x"),
    case("copy-chmod", "COPY --chmod=0751 a.txt dir /x/"),
    case("copy-chmod-and-chown", "COPY --chmod=4711 --chown=3:4 run.sh /x"),
    case("copy-link-flag", "COPY --link a.txt dir /x/"),
    case("copy-link-flag-over", "RUN mkdir /x && touch /x/keep\nCOPY --link --chown=5:6 dir /x/"),
    case("copy-modes", "COPY m /m", {"m/f": File("", 0o4755), "m/g": File("", 0o511), "m/d": Directory(0o1777)}),
    case("copy-hard-links", "COPY h /h", {"h/a": "x", "h/b": Link("h/a", hard=True)}),
    case("copy-heredoc", "COPY <<EOF /x\nhello $HOME\nEOF"),
    case("copy-heredoc-variable", "ENV A=1\nCOPY <<EOF /x\n$A ${B:-none}\nEOF"),
    case("copy-heredoc-quoted", "ENV A=1\nCOPY <<'EOF' /x\n$A\nEOF"),
    case("copy-heredocs", "COPY --chmod=600 <<one <<two a.txt /x/\n1\none\n2\ntwo"),
    case("copy-ignored", "COPY . /x", TREE | {".dockerignore": "*.txt\n!a.txt\ndir/*\n!dir/sub\n# comment\n"}),
    case("copy-ignored-deep", "COPY . /x", TREE | {".dockerignore": "**/*.txt\n"}),
    case("copy-ignored-self", "COPY . /x", TREE | {".dockerignore": "Dockerfile\n.dockerignore\n"}),
    case("copy-empty-directory", "COPY dir/empty /x"),
    case("copy-user-makes-no-owner", "USER nobody\nCOPY a.txt /x"),
    whole(
        "copy-from",
        "FROM busybox AS one\nRUN mkdir /o && echo 1 > /o/f && chown 9:9 /o/f\nFROM busybox\nCOPY --from=one /o /x\n",
    ),
    whole("copy-from-index", "FROM busybox\nRUN echo 1 > /f\nFROM busybox\nCOPY --from=0 /f /x\n"),
    whole(
        "copy-from-links",
        "FROM busybox AS one\nRUN mkdir /o && echo 1 > /o/f && ln /o/f /o/g && ln -s f /o/h\nFROM busybox\nCOPY --from=one /o /x\n",
    ),
    whole(
        "copy-from-glob",
        "FROM busybox AS one\nRUN mkdir /o && touch /o/a1 /o/a2 /o/b\nFROM busybox\nCOPY --from=one /o/a* /x/\n",
    ),
    whole("copy-from-image", "FROM scratch\nCOPY --from=busybox /etc/passwd /bin/sh /x/\n"),
    whole("copy-to-scratch", "FROM scratch\nCOPY a.txt /\n"),
    whole("copy-from-removed", "FROM busybox AS one\nRUN rm /etc/group\nFROM busybox\nCOPY --from=one /etc /x\n"),
    case("copy-one-directory-twice", "COPY dir dir /x/", {"dir/a": "x", "dir/b": Link("dir/a", hard=True)}),
    case("copy-hard-links-apart", "COPY a b /x/", {"a": "x", "b": Link("a", hard=True)}),
    case("copy-into-setgid-directory", "RUN mkdir -m 2777 /x && chgrp 7 /x\nCOPY dir /x"),
    whole(
        "copy-device",
        "FROM busybox AS one\nRUN mkfifo /p && chown 3:4 /p && ln -s p /l && chown -h 5:6 /l && mkdir /d && mv /p /l /d\n"
        "FROM busybox\nCOPY --from=one /d /x\n",
    ),
    refused("copy-glob-in-missing-directory", "COPY nothing/* /x/"),
    refused("copy-glob-below-missing-directory", "COPY nothing/x*/y /x/glob"),
    Case("chown-name-upon-scratch", "FROM scratch\nCOPY --chown=www-data <<f /\nf\n", {}, fails=True),
    whole("workdir-root-upon-scratch", "FROM scratch\nUSER root\nWORKDIR /w\n"),
    Case("workdir-user-upon-scratch", "FROM scratch\nUSER www-data\nWORKDIR /w\n", {}, fails=True),
    refused("copy-missing", "COPY nothing /"),
    case("copy-glob-missing", "COPY nothing* /"),
    refused("copy-ignored-source", "COPY a.txt /", TREE | {".dockerignore": "a.txt\n"}),
    case("copy-several-to-file", "COPY a.txt b.txt /x"),
    refused("copy-directory-over-file", "COPY dir /etc/passwd"),
    refused("copy-unknown-flag", "COPY --nonsense a.txt /"),
    case("copy-unknown-user", "COPY --chown=ghost a.txt /"),
]

ADD = [
    case("add-file", "ADD a.txt /x/"),
    case("add-directory", "ADD dir /x"),
    case("add-tar", "ADD x.tar /x/", {"x.tar": archive()}),
    case("add-tar-to-file-name", "ADD x.tar /x", {"x.tar": archive()}),
    case("add-tar-gz", "ADD x.tgz /x/", {"x.tgz": archive("gz")}),
    case("add-tar-bz2", "ADD x.tar.bz2 /x/", {"x.tar.bz2": archive("bz2")}),
    case("add-tar-xz", "ADD x.tar.xz /x/", {"x.tar.xz": archive("xz")}),
    case("add-tar-zst", "ADD x.tar.zst /x/", {"x.tar.zst": archive("zst")}),
    case("add-tar-by-content", "ADD disguised /x/", {"disguised": archive("gz")}),
    case("add-no-tar", "ADD x.tar /x/", {"x.tar": "not an archive\n"}),
    case("add-gzip-of-text", "ADD x.gz /x/", {"x.gz": gzip.compress(b"text\n", mtime=0)}),
    case("add-directory-with-tar", "ADD d /x", {"d/x.tar": archive()}),
    case("add-tar-over", "RUN mkdir -p /x/inside && echo old > /x/inside/file\nADD x.tar /x/", {"x.tar": archive()}),
    case("add-tar-chown", "ADD --chown=5:6 x.tar /x/", {"x.tar": archive()}),
    case("add-several", "ADD a.txt x.tar /x/", TREE | {"x.tar": archive()}),
    case("copy-does-not-unpack", "COPY x.tar /x/", {"x.tar": archive()}),
]

CONFIG = [
    case(
        "env", "ENV A=1 B='a b' C=\"$A\" D=x\\ y\nENV OLD style value\nENV E=${A}2 F=${X:-default} G=${A:+alt} H=\\$A"
    ),
    case("env-same-line", "ENV A=1\nENV A=2 B=$A\nRUN echo $A $B > /x"),
    case("env-pattern", "ENV A=foo.tar.gz\nENV B=${A%.*} C=${A%%.*} D=${A#*.} E=${A##*.} F=${A/o/0} G=${A//o/0}"),
    case("arg", "ARG A=1\nARG B\nENV C=$A D=${B:-none}\nRUN echo $A $B > /x", None, "--build-arg", "B=given"),
    case("arg-override", "ARG A=1\nRUN echo $A > /x", None, "--build-arg", "A=2"),
    case("arg-env-wins", "ARG A=1\nENV A=2\nRUN echo $A > /x", None, "--build-arg", "A=3"),
    case("arg-predefined", "RUN echo $HTTP_PROXY > /x", None, "--build-arg", "HTTP_PROXY=http://p"),
    case("label", 'LABEL a=1 b="two words" c=\'$x\' "d.e"=f\nLABEL a=2\nLABEL old style'),
    case("label-flag", "LABEL a=1", None, "--label", "b=2"),
    case("expose", "ENV P=81\nEXPOSE 80 443/tcp 53/udp $P 8000-8002"),
    case("volume", 'VOLUME /data ["json"]\nVOLUME ["/a", "/b c"]\nRUN mkdir -p /data && touch /data/x'),
    case("user", "USER nobody:users"),
    case("user-variable", "ARG U=www-data\nUSER $U"),
    case("workdir", "WORKDIR /a\nWORKDIR b\nWORKDIR ../c\nENV D=d\nWORKDIR $D/e"),
    case("workdir-exists", "RUN mkdir /w && chmod 700 /w && chown 3:3 /w\nWORKDIR /w"),
    case("workdir-as-user", "USER nobody\nWORKDIR /w/x"),
    case("workdir-through-link", "RUN mkdir /real && ln -s real /l\nWORKDIR /l/x\nRUN pwd > here"),
    case("cmd-shell", "CMD echo hi"),
    case("cmd-exec", 'CMD ["echo", "hi"]'),
    case("cmd-twice", 'CMD echo one\nCMD ["two"]'),
    case("entrypoint-exec", 'ENTRYPOINT ["/bin/echo", "a"]'),
    case("entrypoint-shell", "ENTRYPOINT exec top -b"),
    case("entrypoint-keeps-cmd", 'CMD ["a"]\nENTRYPOINT ["/bin/echo"]'),
    case("entrypoint-drops-base-cmd", 'ENTRYPOINT ["/bin/echo"]'),
    case("shell", 'SHELL ["/bin/ash", "-ec"]\nRUN echo $0 > /x\nCMD echo hi'),
    case("stopsignal", "STOPSIGNAL SIGQUIT"),
    case(
        "healthcheck",
        "HEALTHCHECK --interval=5m --timeout=3s --start-period=1s --retries=2 CMD wget -q localhost || exit 1",
    ),
    case("healthcheck-exec", 'HEALTHCHECK CMD ["true"]'),
    case("healthcheck-none", "HEALTHCHECK NONE"),
    case("onbuild", "ONBUILD COPY . /app\nONBUILD RUN make"),
    case("maintainer", "MAINTAINER Somebody <a@b.c>"),
    case("lower-case", "run echo hi > /x\ncopy a.txt /\nenv A=1"),
    case("comments", "# a comment\n  # another\nRUN echo '# not' > /x"),
    whole("escape", "# escape=`\nFROM busybox\nRUN echo a `\n && echo b > /x\nENV A=c:\\windows\n"),
    whole("syntax-crlf", "FROM busybox\r\nRUN echo a \\\r\n && echo b > /x\r\nENV A=1\r\n"),
]

STAGES = [
    whole("stage-chain", "FROM busybox AS base\nRUN echo 1 > /one\nENV A=1\nFROM base\nRUN echo 2 > /two\n"),
    whole("stage-unused", "FROM busybox AS unused\nRUN exit 1\nFROM busybox\nRUN touch /x\n"),
    whole(
        "stage-target",
        "FROM busybox AS one\nRUN touch /one\nFROM busybox AS two\nRUN touch /two\n",
        None,
        "--target",
        "one",
    ),
    Case("stage-target-number", "FROM busybox\nFROM busybox\n", {}, ("--target", "0"), fails=True),
    whole("stage-name-case", "FROM busybox AS One\nRUN touch /one\nFROM busybox\nCOPY --from=oNE /one /x\n"),
    whole("global-arg", "ARG BASE=busybox\nARG V=1\nFROM ${BASE}:latest\nARG V\nRUN echo $V > /x\n"),
    whole("global-arg-scope", 'ARG V=1\nFROM busybox\nRUN echo "[$V]" > /x\n'),
    whole("stage-environment", 'FROM busybox AS a\nENV A=1\nARG B=2\nFROM a\nRUN echo "$A [$B]" > /x\n'),
    whole(
        "mount-from-stage",
        "FROM busybox AS a\nRUN echo 1 > /f\nFROM busybox\nRUN --mount=from=a,target=/a cat /a/f > /x\n",
    ),
    whole("scratch-empty-config", 'FROM scratch\nCOPY a.txt /\nENV A=1\nCMD ["/a.txt"]\n'),
    whole("onbuild-runs", "FROM busybox AS base\nONBUILD RUN echo triggered > /x\nFROM base\nRUN cat /x > /y\n"),
    whole(
        "two-copies-of-a-base",
        "FROM busybox AS a\nRUN touch /a\nFROM busybox AS b\nRUN touch /b\nFROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    ),
    Case("no-from", "RUN true\n", {}, fails=True),
    Case("unknown-instruction", "FROM busybox\nRUNN true\n", {}, fails=True),
    Case("empty", "# nothing\n", {}, fails=True),
    Case("unknown-target", "FROM busybox\n", {}, ("--target", "nothing"), fails=True),
    Case("circle", "FROM b AS a\nFROM a AS b\n", {}, ("--target", "a"), fails=True),
]

CASES = [*RUN, *COPY, *ADD, *CONFIG, *STAGES]


def history(number: int, ours: str, docker: str, empty: bool = True) -> str:
    """The line for a history entry that reads otherwise."""
    mine, other = ({"created_by": text, "empty_layer": empty} for text in (ours, docker))
    return f"config history {number}: {mine!r} is {other!r}"


# Where BuildKit has changed since Docker 26, today's behaviour is ours: what differs is written down, line by line.
NEWER: dict[str, list[str]] = {
    # The directories that a COPY makes on its way take its mode and owner.
    "copy-chmod": ["/x: mode '0751' is '0755'"],
    "copy-heredocs": ["/x: mode '0600' is '0755'"],
    "copy-link-flag-over": ["/x: owner '5:6' is '0:0'"],
    # An unpacked archive's files are --chown's.
    "add-tar-chown": [
        "/x/inside: owner '5:6' is '7:7'",
        "/x/inside/file: owner '5:6' is '1000:1000'",
        "/x/inside/hard: owner '5:6' is '1000:1000'",
        "/x/inside/link: owner '5:6' is '0:0'",
        "/x/run.sh: owner '5:6' is '0:0'",
    ],
    # The history tells an ARG's value as it is, and all that are set where a stage was inherited.
    "arg": [history(2, "ARG B=given", "ARG B")],
    "arg-override": [history(1, "ARG A=2", "ARG A=1")],
    "arg-env-wins": [history(1, "ARG A=3", "ARG A=1")],
    "global-arg": [history(1, "ARG V=1", "ARG V")],
    "stage-environment": [
        history(
            3,
            'RUN |1 B=2 /bin/sh -c echo "$A [$B]" > /x # buildkit',
            'RUN /bin/sh -c echo "$A [$B]" > /x # buildkit',
            empty=False,
        )
    ],
    # The history prints lists and health checks in another form.
    "expose": [
        history(
            2,
            "EXPOSE [443/tcp 53/udp 80/tcp 8000/tcp 8001/tcp 8002/tcp 81/tcp]",
            "EXPOSE map[443/tcp:{} 53/udp:{} 80/tcp:{} 8000/tcp:{} 8001/tcp:{} 8002/tcp:{} 81/tcp:{}]",
        )
    ],
    "healthcheck": [
        history(
            1,
            "HEALTHCHECK {Test:[CMD-SHELL wget -q localhost || exit 1] Interval:5m0s Timeout:3s StartPeriod:1s"
            " StartInterval:0s Retries:2}",
            'HEALTHCHECK &{["CMD-SHELL" "wget -q localhost || exit 1"] "5m0s" "3s" "1s" "0s" \'\\x02\'}',
        )
    ],
    "healthcheck-exec": [
        history(
            1,
            "HEALTHCHECK {Test:[CMD true] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            'HEALTHCHECK &{["CMD" "true"] "0s" "0s" "0s" "0s" \'\\x00\'}',
        )
    ],
    "healthcheck-none": [
        history(
            1,
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            'HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" \'\\x00\'}',
        )
    ],
}

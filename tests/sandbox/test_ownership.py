"""Owners and modes reach the layer in every id mode, also where the file system cannot hold them."""

from __future__ import annotations

import pytest

from tests.sandbox.kit import Room

Owners = dict[str, tuple[int, int]]


def owners(room: Room, command: str, **options: object) -> Owners:
    layer = room.layer(room.step(command, **options))
    return {name: (entry.uid, entry.gid) for name, entry in layer.items()}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("touch /f; chown 7:8 /f", {"f": (7, 8)}),
        ("touch /f; chown app:staff /f; chown :44 /f", {"f": (1000, 44)}),
        ("touch /f; chown 7:8 /f; chown root:root /f", {"f": (0, 0)}),
        ("touch /f; chown 7 /f; mv /f /g", {"g": (7, 0)}),
        ("mkdir -p /d/e; touch /d/e/f; chown -R 5:6 /d", {"d": (5, 6), "d/e": (5, 6), "d/e/f": (5, 6)}),
        ("ln -s nowhere /l; chown -h 9:9 /l", {"l": (9, 9)}),
        ("ln -s nowhere /l; chown -h 9:9 /l; mv /l /m", {"m": (9, 9)}),
        ("mkfifo /p; ln -s p /l; chown -h 9:9 /p /l; mkdir /d; mv /p /l /d",
         {"d": (0, 0), "d/l": (9, 9), "d/p": (9, 9)}),
        ("touch /f; ln -s f /l; chown 9:9 /l", {"f": (9, 9), "l": (0, 0)}),
        ("mkfifo /p; chown 3:4 /p", {"p": (3, 4)}),
        ("chown app /etc/passwd", {"etc": (0, 0), "etc/passwd": (1000, 0)}),
        ("cd /tmp; touch f; chown 5:6 f; cd /; chown 6 tmp/f", {"tmp": (0, 0), "tmp/f": (6, 6)}),
        ("chroot / sh -c 'cd /home; touch x; chown 11:12 x'", {"home": (0, 0), "home/x": (11, 12)}),
        ("mkdir -p /r/bin /r/etc; cp /bin/busybox /r/bin/chown; touch /r/f; chroot /r /bin/chown 5:6 /f",
         {"r": (0, 0), "r/bin": (0, 0), "r/bin/chown": (0, 0), "r/etc": (0, 0), "r/f": (5, 6)}),
    ],
)  # fmt: skip
def test_owners_in_the_layer(room: Room, command: str, expected: Owners) -> None:
    assert owners(room, command) == expected


def test_owners_carry_over_to_later_layers(room: Room) -> None:
    room.step("mkdir /data; touch /data/f; ln -s f /data/l; chown -R 7:8 /data; chown -h 7:8 /data/l")

    assert owners(room, "echo more >> /data/f; chmod 700 /data") == {"data": (7, 8), "data/f": (7, 8)}
    assert owners(room, "chown 9 /data/f")["data/f"] == (9, 8)


def test_modes_are_the_real_ones(room: Room) -> None:
    """A change of mode after a change of owner counts, and chown clears the set-id bits."""
    layer = room.layer(
        room.step("touch /a /b /c; chown 7 /a; chmod 600 /a; chmod 4755 /b; chown 7 /b; chown 7 /c; chmod 6711 /c")
    )

    assert {name: oct(entry.mode) for name, entry in layer.items()} == {"a": "0o600", "b": "0o755", "c": "0o6711"}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("chown 7 /no/such", 1),
        ("chown 7 /etc/hosts", 1),  # a read-only mount
        ("chown 7 /dev/null", 0),
        ("chown 7 /dev/shm", 0),
    ],
)
def test_chown_fails_where_it_would_fail(room: Room, command: str, code: int) -> None:
    if command == "chown 7 /dev/null" and room.mode != "root":
        code = 1  # there the node is the host's

    assert room.run(command) == code


def test_what_a_user_makes_is_his(room: Room) -> None:
    made = owners(room, "touch /tmp/f; mkdir -p /tmp/d/e; ln -s f /tmp/l; mkfifo /tmp/p", user="app")

    assert made == {
        "tmp": (0, 0),
        "tmp/f": (1000, 1000),
        "tmp/d": (1000, 1000),
        "tmp/d/e": (1000, 1000),
        "tmp/l": (1000, 1000),
        "tmp/p": (1000, 1000),
    }


def test_what_was_there_keeps_its_owner(room: Room) -> None:
    room.step("echo x > /tmp/shared; chmod 666 /tmp/shared; mkdir -m 777 /open")

    made = owners(room, "echo y >> /tmp/shared; echo z > /open/mine", user="app", cwd="/new/dir")

    assert made == {
        "new": (0, 0),
        "new/dir": (0, 0),
        "open": (0, 0),
        "open/mine": (1000, 1000),
        "tmp": (0, 0),
        "tmp/shared": (0, 0),
    }


def test_mount_points_do_not_become_his(room: Room) -> None:
    from dockermagic.sandbox.base import Mount

    mounts = (Mount("tmpfs", "/var/cache/tool", mode=0o1777),)

    assert owners(room, "touch /var/cache/tool/x; touch /tmp/x", user="app", mounts=mounts) == {
        "tmp": (0, 0),
        "tmp/x": (1000, 1000),
    }


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("su app -c 'id -u; id -g'", "1000\n1000\n"),
        ("su app -c 'echo $HOME; cd; pwd'", "/home/app\n/home/app\n"),
        ("su app -c 'sh -c \"id -u\"'; id -u", "1000\n0\n"),
        ("su app -c 'chown root /tmp/x 2>/dev/null || echo refused'", "refused\n"),
        ("su app -c 'su root -c id' </dev/null 2>/dev/null || echo refused", "refused\n"),
    ],
)
def test_becoming_another_user(room: Room, command: str, printed: str) -> None:
    room.step("touch /tmp/x")

    assert room.printed(command) == printed

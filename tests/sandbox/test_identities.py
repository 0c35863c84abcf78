"""The ids that processes with a single id are told they have."""

from __future__ import annotations

import pytest

from dockermagic.sandbox.identities import ROOT, Ids, Processes, change

APP = Ids(1000, 1000, 1000, 100, 100, 100, (100,))
SUSPENDED = Ids(1000, 1000, 0)


@pytest.mark.parametrize(
    ("ids", "call", "wanted", "after"),
    [
        (ROOT, "setuid", (5,), Ids(5, 5, 5)),
        (ROOT, "setgid", (5,), Ids(rgid=5, egid=5, sgid=5)),
        (ROOT, "setreuid", (None, 5), Ids(0, 5, 5)),
        (ROOT, "setreuid", (5, None), Ids(5, 0, 0)),
        (ROOT, "setresuid", (None, 5, None), Ids(0, 5, 0)),
        (ROOT, "setresgid", (1, 2, 3), Ids(rgid=1, egid=2, sgid=3)),
        (ROOT, "setgroups", (7, 8), Ids(groups=(7, 8))),
        (ROOT, "setfsuid", (5,), ROOT),
        (APP, "setuid", (1000,), APP),
        (APP, "setuid", (0,), None),
        (APP, "setgid", (0,), None),
        (APP, "setgroups", (0,), None),
        (APP, "setresuid", (None, None, None), APP),
        (APP, "setresuid", (0, None, None), None),
        (SUSPENDED, "setuid", (0,), Ids(1000, 0, 0)),
        (SUSPENDED, "setresuid", (0, 0, 0), ROOT),
    ],
)
def test_change(ids: Ids, call: str, wanted: tuple[int | None, ...], after: Ids | None) -> None:
    if after is None:
        with pytest.raises(PermissionError):
            change(ids, call, wanted)
    else:
        assert change(ids, call, wanted) == after


def test_children_inherit_and_numbers_are_used_again() -> None:
    """2 becomes app, 3 is its child, 4 a thread of 3, 5 a child of 1; then 3 is another process."""
    tasks = {1: (1, 0, 10), 2: (2, 1, 20), 3: (3, 2, 30), 4: (3, 2, 31), 5: (5, 1, 50)}
    processes = Processes(tasks.get)
    assert processes.get(3) == ROOT

    processes.set(2, APP)

    assert [processes.get(pid) for pid in (1, 2, 3, 4, 5)] == [ROOT, APP, APP, APP, ROOT]
    processes.set(2, ROOT)
    assert processes.get(3) == APP
    tasks[3] = (3, 1, 99)
    assert processes.get(3) == ROOT
    del tasks[4]
    assert processes.get(4) == ROOT

"""Sessions on disk: what is written is read back, by other kernels and after a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockermagic.errors import SessionError, StoreError
from dockermagic.session.chain import Cell, Chain
from dockermagic.session.store import KEPT_CHAINS, KEPT_SECONDS, SessionName, SessionStore, State

NAMED = SessionName("named", "lesson")
CHAIN = Chain((Cell("a", "FROM busybox", built=("k1",)), Cell("b", "RUN true", name="x")), frozenset("a"))

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
CELLS = st.builds(
    Cell,
    id=TEXT,
    text=TEXT,
    name=TEXT,
    number=st.none() | st.integers(),
    above=st.integers(0, 9),
    build_args=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    context=TEXT,
    target=TEXT,
    tags=st.lists(TEXT, max_size=2).map(tuple),
    built=st.none() | st.lists(TEXT, max_size=3).map(tuple),
)
CHAINS = st.lists(CELLS, max_size=3, unique_by=lambda cell: cell.id).map(
    lambda cells: Chain(tuple(cells), frozenset(cell.id for cell in cells[::2]))
)


@given(chain=CHAINS, past=st.lists(CHAINS, max_size=2))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, chain: Chain, past: list[Chain]
) -> None:
    file = SessionStore(tmp_path_factory.mktemp("home")).open(NAMED)
    state = State(chain, tuple(past))

    file.write(state)

    assert state == file.read()
    assert [file.path] == list(file.path.parent.iterdir())


def test_a_cell_that_many_chains_have_is_written_once(tmp_path: Path) -> None:
    file = SessionStore(tmp_path).open(NAMED)
    file.write(State(CHAIN, (CHAIN,) * 20))

    assert file.path.read_text().count("FROM busybox") == 1


def test_what_another_kernel_writes_is_seen(tmp_path: Path) -> None:
    file = SessionStore(tmp_path).open(NAMED)
    file.write(State(CHAIN))
    SessionStore(tmp_path).open(NAMED).write(State(Chain(), (CHAIN,)))

    assert State(Chain(), (CHAIN,)) == file.read()


def test_a_session_of_the_version_before_is_read(tmp_path: Path) -> None:
    file = SessionStore(tmp_path).open(NAMED)
    file.path.parent.mkdir()
    cell = {"id": "a", "text": "FROM busybox", "built": ["k1"], "build_args": [["K", "V"]]}
    chain = {"cells": [cell, {"id": "b", "text": "RUN true"}], "on": ["a"]}
    file.path.write_text(json.dumps({"version": 1, "chain": chain, "past": [{"cells": [], "on": []}]}))

    known = Cell("a", "FROM busybox", built=("k1",), build_args=(("K", "V"),))
    assert State(Chain((known, Cell("b", "RUN true")), frozenset("a")), (Chain(),)) == file.read()


def test_a_session_without_a_file_is_empty(tmp_path: Path) -> None:
    assert State() == SessionStore(tmp_path).open(NAMED).read()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '{"version": 2}', '{"version": 2, "cells": [{"no": 1}]}'),
        '{"version": 2, "cells": [], "chain": {"cells": [0], "on": []}, "past": []}',
    ],
)
def test_a_damaged_session_says_so(tmp_path: Path, text: str) -> None:
    file = SessionStore(tmp_path).open(NAMED)
    file.write(State())
    file.path.write_text(text)

    with pytest.raises(SessionError, match="damaged"):
        file.read()


def test_a_session_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = SessionStore(tmp_path).open(NAMED)
    file.write(State())
    file.path.write_text(file.path.read_text().replace('"version": 2', '"version": 99'))

    with pytest.raises(SessionError, match="newer dockermagic"):
        file.read()


def test_a_home_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("a file in the way")

    with pytest.raises(StoreError, match="cannot write the session"):
        SessionStore(tmp_path).open(NAMED).write(State())


@pytest.mark.parametrize(
    "names",
    [
        (SessionName("named", "a b"), SessionName("named", "a_b")),
        (SessionName("named", "x"), SessionName("kernel", "x")),
        (SessionName("notebook", "/one/a.ipynb"), SessionName("notebook", "/two/a.ipynb")),
    ],
)
def test_different_sessions_have_different_files(tmp_path: Path, names: tuple[SessionName, SessionName]) -> None:
    one, other = (SessionStore(tmp_path).open(name).path for name in names)

    assert one != other


@pytest.mark.parametrize("value", ["../../etc/passwd", "/", "..", "", "ä ö", "x" * 500])
def test_no_name_leaves_the_folder(tmp_path: Path, value: str) -> None:
    file = SessionStore(tmp_path).open(SessionName("named", value))
    file.write(State(CHAIN))

    assert [file.path] == list((tmp_path / "sessions").iterdir())


def test_a_renamed_notebook_keeps_its_session(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    store.open(SessionName("notebook", "/gone/old.ipynb")).write(State(CHAIN))
    renamed = SessionName("notebook", "/gone/new.ipynb")

    store.adopt(renamed, lambda: {"another": "RUN another"})
    assert State() == store.open(renamed).read()
    store.adopt(renamed, lambda: {"new": "", "b": ""})
    assert State(CHAIN) == store.open(renamed).read()
    assert State() == store.open(SessionName("notebook", "/gone/old.ipynb")).read()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State(Chain((Cell("x", "RUN false"),))), State(CHAIN)),
        (State(Chain((), frozenset()), (CHAIN,)), State(Chain((), frozenset()), (CHAIN,))),
    ],
)
def test_a_session_with_a_past_does_not_give_way(tmp_path: Path, state: State, expected: State) -> None:
    store = SessionStore(tmp_path)
    store.open(SessionName("notebook", "/gone/old.ipynb")).write(State(CHAIN))
    renamed = SessionName("notebook", "/gone/new.ipynb")
    store.open(renamed).write(state)

    store.adopt(renamed, lambda: {"b": ""})
    assert store.open(renamed).read() == expected


def test_a_session_whose_ids_did_not_last_is_found_by_its_whole_text(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    texts = {str(number): f"%%dockerfile\n{cell.text}\n" for number, cell in enumerate(CHAIN.cells)}
    store.open(SessionName("notebook", "/gone/old.ipynb")).write(State(CHAIN))
    renamed = SessionName("notebook", "/gone/new.ipynb")

    store.adopt(renamed, lambda: {"0": texts["1"]})
    assert State() == store.open(renamed).read()
    store.adopt(renamed, lambda: texts)
    assert State(CHAIN) == store.open(renamed).read()


def test_a_copied_notebook_has_a_session_of_its_own(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    original = tmp_path / "old.ipynb"
    original.touch()
    store.open(SessionName("notebook", str(original))).write(State(CHAIN))

    copy = SessionName("notebook", str(tmp_path / "copy.ipynb"))
    store.adopt(copy, lambda: {"a": ""})
    assert State() == store.open(copy).read()


def test_old_sessions_of_kernels_are_forgotten(tmp_path: Path) -> None:
    store = SessionStore(tmp_path)
    files = [store.open(SessionName(kind, kind)) for kind in ("kernel", "named", "notebook")]
    for file in files:
        with file.locked():
            file.write(State(CHAIN))
    left = files[1].path.with_name(f".{files[1].path.name}.01234567")
    left.touch()
    written = os.stat(left).st_mtime

    store.sweep(now=written + KEPT_SECONDS - 1)
    assert all(path.exists() for path in (left, *(file.path for file in files)))
    store.sweep(now=written + KEPT_SECONDS + 1)

    assert [path.exists() for path in (left, *(file.path for file in files))] == [False, False, True, True]


def test_writers_wait_for_one_another(tmp_path: Path) -> None:
    """Each adds its cells to what the others left: none is lost."""

    def add(name: str) -> None:
        file = SessionStore(tmp_path).open(NAMED)
        for number in range(20):
            with file.locked():
                state = file.read()
                cell = Cell(f"{name}{number}", "RUN true")
                chain = Chain((*state.chain.cells, cell), state.chain.ids | {cell.id})
                file.write(State(chain))

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(SessionStore(tmp_path).open(NAMED).read().chain.ids) == 80


WAITER = """
import sys
from pathlib import Path
from dockermagic.errors import BuildInterruptedError
from dockermagic.session import SessionName, SessionStore
file = SessionStore(Path(sys.argv[1])).open(SessionName("named", "lesson"))
print("waiting", flush=True)
try:
    with file.locked():
        print("locked")
except BuildInterruptedError:
    print("interrupted")
"""


def test_waiting_for_another_kernel_can_be_interrupted(tmp_path: Path) -> None:
    with SessionStore(tmp_path).open(NAMED).locked():
        waiter = subprocess.Popen([sys.executable, "-c", WAITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert waiter.stdout is not None and waiter.stdout.readline() == "waiting\n"
        while waits_for_a_lock(waiter.pid) is False:
            pass
        waiter.send_signal(signal.SIGINT)
        said, _ = waiter.communicate()

    assert said == "interrupted\n"


def waits_for_a_lock(pid: int) -> bool:
    """Whether the kernel lists the process among those that wait for a lock."""
    return any(f" {pid} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())


WRITER = """
import sys
from pathlib import Path
from dockermagic.session import Cell, Chain, SessionName, SessionStore
from dockermagic.session.store import State
file = SessionStore(Path(sys.argv[1])).open(SessionName("named", "lesson"))
for number in range(10**9):
    file.write(State(Chain((Cell("a", "x" * 100_000, number=number),), frozenset("a"))))
    if number == 3:
        print("writing", flush=True)
"""


@pytest.mark.parametrize("milliseconds", range(0, 40, 8))
def test_a_writer_that_is_killed_leaves_a_whole_session(tmp_path: Path, milliseconds: int) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    with pytest.raises(subprocess.TimeoutExpired):
        writer.wait(milliseconds / 1000)
    writer.kill()
    writer.communicate()

    (cell,) = SessionStore(tmp_path).open(NAMED).read().chain.on
    assert len(cell.text) == 100_000 and cell.number >= 3


def test_undo_goes_back_over_what_changed_the_dockerfile() -> None:
    state = State()
    for number in range(KEPT_CHAINS + 5):
        state = state.then(Chain((Cell("a", str(number)),), frozenset("a")))
    same = state.then(Chain((*state.chain.cells, Cell("b", "off the chain")), frozenset("a")))

    assert len(state.past) == KEPT_CHAINS
    assert same.past == state.past
    assert str(KEPT_CHAINS + 3) == state.undone().chain.cells[0].text


def test_undo_with_nothing_before_says_so() -> None:
    with pytest.raises(SessionError, match="nothing to undo"):
        State().undone()

"""The records: transactions, threads, other processes, and what goes wrong."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockermagic.errors import StoreError
from dockermagic.records import VERSION, Records, declare

declare("test", "CREATE TABLE IF NOT EXISTS test_numbers (number INTEGER NOT NULL);")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(tmp_path / "home")
    yield made
    made.close()


def add(records: Records, number: int) -> None:
    with records.transaction() as tx:
        tx.execute("INSERT INTO test_numbers VALUES (?)", (number,))


def numbers(records: Records) -> list[int]:
    return [row["number"] for row in records.rows("SELECT number FROM test_numbers ORDER BY number")]


def test_what_is_undone_leaves_nothing_and_an_inner_use_is_undone_alone(records: Records) -> None:
    with pytest.raises(ZeroDivisionError), records.transaction():
        add(records, 1)
        raise ZeroDivisionError
    with records.transaction():
        add(records, 2)
        with pytest.raises(ZeroDivisionError), records.transaction():
            add(records, 3)
            raise ZeroDivisionError
        add(records, 4)

    assert numbers(records) == [2, 4]


def test_calls_after_the_commit_run_once_and_not_for_what_was_undone(records: Records) -> None:
    called: list[str] = []

    def note() -> None:
        called.append(f"saw {numbers(records)}")

    with records.transaction():
        add(records, 1)
        records.after_commit(note)
        records.after_commit(note)
        with pytest.raises(ZeroDivisionError), records.transaction():
            records.after_commit(lambda: called.append("undone"))
            raise ZeroDivisionError
        assert called == []
    records.after_commit(lambda: called.append("at once"))

    assert called == ["saw [1]", "at once"]


def test_a_table_declared_later_is_made_when_needed(records: Records) -> None:
    add(records, 1)
    declare(
        "late",
        "CREATE TABLE IF NOT EXISTS test_late (a TEXT); CREATE INDEX IF NOT EXISTS test_late_a ON test_late (a);",
    )

    assert records.rows("SELECT * FROM test_late") == []


def test_threads_and_processes_write_at_once(records: Records) -> None:
    program = (
        "import sys, pathlib\n"
        "from dockermagic.records import Records, declare\n"
        "declare('test', 'CREATE TABLE IF NOT EXISTS test_numbers (number INTEGER NOT NULL);')\n"
        "records = Records(pathlib.Path(sys.argv[1]))\n"
        "for number in range(50):\n"
        "    with records.transaction() as tx:\n"
        "        tx.execute('INSERT INTO test_numbers VALUES (?)', (number,))\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, records.home]) for _ in range(3)]
    threads = [threading.Thread(target=lambda: [add(records, number) for number in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [process.wait() for process in others] == [0] * 3
    assert numbers(records) == sorted(list(range(50)) * 6)


def test_a_fork_uses_a_connection_of_its_own(records: Records) -> None:
    add(records, 1)
    child = os.fork()
    if not child:
        try:
            add(records, 2)
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    add(records, 3)
    assert numbers(records) == [1, 2, 3]


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "store.db")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer dockermagic"):
        Records(tmp_path).rows("SELECT 1")


def test_a_file_that_is_no_store_and_a_query_that_is_wrong_are_clear_errors(tmp_path: Path, records: Records) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database" * 100)
    for broken, query in ((Records(tmp_path), "SELECT 1"), (records, "SELECT nonsense")):
        with pytest.raises(StoreError, match=r"store\.db"):
            broken.rows(query)


def test_a_writer_that_waits_too_long_says_so(records: Records) -> None:
    impatient = Records(records.home, busy_seconds=0)
    with records.transaction():
        add(records, 1)
        with pytest.raises(StoreError, match="locked"), impatient.transaction():
            pass
    impatient.close()

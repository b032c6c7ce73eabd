"""What is written survives a kill, and one owner holds a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llama_index_hybridmem.disk import LOCK_NAME, FolderLock, Journal, atomic_write_bytes, atomic_write_text
from llama_index_hybridmem.errors import StoreDamagedError, StoreError, StoreLockedError

HOLDER = """
import sys
from pathlib import Path
from llama_index_hybridmem.disk import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_atomic_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """The new content stands there, byte for byte, and no temporary file beside it."""
    place = tmp_path / "store.json"
    atomic_write_text(place, "old")
    atomic_write_text(place, "neu ü\n")
    assert place.read_bytes() == "neu ü\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk refuses, the old content stays and the temporary file goes."""
    place = tmp_path / "store.json"
    atomic_write_bytes(place, b"old")

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="no space left"):
        atomic_write_bytes(place, b"new")
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_lock_is_held_once_in_a_process(tmp_path: Path) -> None:
    """A second opener in the same process is refused with this pid; after release it may."""
    with FolderLock(tmp_path / "new" / "store") as lock:
        with pytest.raises(StoreLockedError) as refused:
            FolderLock(tmp_path / "new" / "store")
        assert refused.value.pid == os.getpid()
        assert str(os.getpid()) in str(refused.value)
        lock.release()
        lock.release()
        FolderLock(tmp_path / "new" / "store").release()


def test_lock_names_the_other_process_and_dies_with_it(tmp_path: Path) -> None:
    """Another process is named by pid; when it is killed, nobody has to clean up."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError) as refused:
            FolderLock(tmp_path)
        assert refused.value.pid == holder.pid
        holder.kill()
        holder.wait()
    with FolderLock(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_lock_without_a_readable_pid(tmp_path: Path) -> None:
    """An owner whose pid cannot be read is "another process", not a crash."""
    with FolderLock(tmp_path):
        (tmp_path / LOCK_NAME).write_text("?")
        with pytest.raises(StoreLockedError, match="another process") as refused:
            FolderLock(tmp_path)
    assert refused.value.pid is None


def test_journal_gives_back_what_was_appended(tmp_path: Path) -> None:
    """Entries come back in order, through a new object too, until cleared."""
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.entries() == []
    journal.clear()
    journal.append({"documents": ["ä\n", "b"]})
    journal.append({"n": 1})
    assert Journal(tmp_path / "journal.jsonl").entries() == [{"documents": ["ä\n", "b"]}, {"n": 1}]
    journal.clear()
    assert journal.entries() == []


@pytest.mark.parametrize("torn", [b'{"n": 2', b'{"n": 2}', b"\xc3"])
def test_journal_drops_a_torn_last_line(tmp_path: Path, torn: bytes) -> None:
    """A line without its end was never acknowledged; what is appended after it is not spoilt by it."""
    place = tmp_path / "journal.jsonl"
    journal = Journal(place)
    journal.append({"n": 1})
    with open(place, "ab") as file:
        file.write(torn)
    assert journal.entries() == [{"n": 1}]
    journal.append({"n": 3})
    assert journal.entries() == [{"n": 1}, {"n": 3}]


def test_journal_with_a_broken_line_inside_is_damaged(tmp_path: Path) -> None:
    """A whole line that is no JSON is damage, said with its number."""
    place = tmp_path / "journal.jsonl"
    place.write_bytes(b'{"n": 1}\nrubbish\n{"n": 2}\n')
    with pytest.raises(StoreDamagedError, match="line 2"):
        Journal(place).entries()


def test_journal_refuses_what_is_no_json_without_harm(tmp_path: Path) -> None:
    """An entry that cannot be written leaves no trace."""
    journal = Journal(tmp_path / "journal.jsonl")
    with pytest.raises(TypeError):
        journal.append({"n": object()})
    assert not (tmp_path / "journal.jsonl").exists()


def test_journal_is_shared_by_threads(tmp_path: Path) -> None:
    """Lines of many threads do not mix."""
    journal = Journal(tmp_path / "journal.jsonl")

    def write(k: int) -> None:
        for i in range(10):
            journal.append({"k": k, "i": i})

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {(entry["k"], entry["i"]) for entry in journal.entries()}
    assert found == {(k, i) for k in range(4) for i in range(10)}


def test_a_place_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    """Lock and journal tell of a folder that is none as StoreError, with the system's error as the cause."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file") as locked:
        FolderLock(tmp_path / "file")
    with pytest.raises(StoreError, match="file") as written:
        Journal(tmp_path / "file" / "journal.jsonl").append({})
    assert isinstance(locked.value.__cause__, OSError)
    assert isinstance(written.value.__cause__, OSError)

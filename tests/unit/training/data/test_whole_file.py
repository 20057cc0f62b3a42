"""Files appear whole, whoever else writes them and whoever is killed."""

import os
import signal
from pathlib import Path

import pytest

from training.data.whole_file import replace_file


def test_two_writers_at_once_each_leave_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    with replace_file(path) as one:
        one.write(b"one, ")
        with replace_file(path) as other:
            other.write(b"other")
        assert path.read_bytes() == b"other"
        one.write(b"whole")
    assert path.read_bytes() == b"one, whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_earlier_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    path.write_bytes(b"earlier")
    with pytest.raises(UnicodeEncodeError), replace_file(path) as file:
        file.writelines(text.encode("ascii") for text in ("half", "\N{HOT BEVERAGE}"))
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.arrow"
    child = os.fork()
    if child == 0:
        with replace_file(path):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (tmp_path / ".rows.arrow.unfinished").touch()  # its name before there could be several
    assert len(list(tmp_path.iterdir())) == 2
    with replace_file(path) as file:
        file.write(b"whole")
    assert list(tmp_path.iterdir()) == [path]

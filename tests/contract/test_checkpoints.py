"""Checkpoints are shortcuts: what cannot be read is absent, what cannot be written is told, nothing else happens."""

import os
import pickle

import numpy as np
import pytest

from mlma.adapters.checkpoints import FileCheckpoints, NoCheckpoints
from mlma.core.errors import StoreError
from mlma.monitor.monitor import LossMonitor
from mlma.runtime.ports import Checkpoints

ROOT_MAY_WRITE_ANYWHERE = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def root(tmp_path):
    return tmp_path / "state" / "checkpoints"


@pytest.fixture
def files(root) -> Checkpoints:
    return FileCheckpoints(root)


def arrays(value):
    return {
        "level": np.full((2, 3), value),
        "batch": np.asarray(7),
        "made_for": np.asarray("a line of text"),
        "nothing": np.empty((0, 4)),
    }


def assert_same(found, expected):
    assert found is not None
    assert found.keys() >= expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_monitor_comes_back_as_it_was_saved(files):
    files.save_monitor(4, arrays(1.5))
    assert_same(files.load_monitor(4), arrays(1.5))


def test_a_monitor_that_was_read_goes_on_as_if_it_had_never_been_saved(files):
    rng = np.random.default_rng(0)
    losses = np.abs(rng.standard_normal((8, 30, 24)))
    monitor = LossMonitor(30)
    for batch in range(6):
        monitor.update(losses[batch])
    files.save_monitor(5, monitor.arrays())
    found = files.load_monitor(5)
    assert found is not None
    restored = LossMonitor(30)
    restored.restore(found)
    for batch in (6, 7):
        a, b = monitor.update(losses[batch]), restored.update(losses[batch])
        np.testing.assert_array_equal(a.p_value, b.p_value)
        assert repr(a.certificate) == repr(b.certificate)


def test_the_batch_before_stays_because_its_record_may_be_the_last(files):
    for batch in range(4):
        files.save_monitor(batch, arrays(float(batch)))
    assert_same(files.load_monitor(3), arrays(3.0))
    assert_same(files.load_monitor(2), arrays(2.0))


def test_two_batches_back_is_forgotten_and_not_taken_for_another(files):
    for batch in range(4):
        files.save_monitor(batch, arrays(float(batch)))
    assert files.load_monitor(1) is None  # its file holds batch 3
    assert files.load_monitor(0) is None


@pytest.mark.parametrize("batch", [0, 4, 6, 7])
def test_a_batch_that_was_never_saved_is_absent(files, batch):
    files.save_monitor(5, arrays(1.0))
    assert files.load_monitor(batch) is None


def test_a_file_that_does_not_name_its_batch_is_absent(files, root):
    files.save_monitor(4, arrays(1.0))
    with (root / "monitor-0.npz").open("wb") as file:
        np.savez(file, level=np.ones(3))
    assert files.load_monitor(4) is None


def test_a_batch_is_replaced_when_it_is_judged_again(files):
    files.save_monitor(4, arrays(1.0))
    files.save_monitor(4, arrays(2.0))
    assert_same(files.load_monitor(4), arrays(2.0))


def damage(path, how):
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "a directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut short": content[: len(content) // 2],
                "without its end": content[:-10],
                "not a checkpoint": b"these are no arrays",
                "one byte changed": content[:150] + bytes([content[150] ^ 0xFF]) + content[151:],
                "pickled": pickle.dumps({"level": 1.0}),
            }[how]
        )


DAMAGE = (
    "gone", "a directory", "empty", "cut short", "without its end", "not a checkpoint", "one byte changed", "pickled",
)  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_monitor_is_absent_and_the_other_batch_is_not_touched(files, root, how):
    files.save_monitor(4, arrays(4.0))
    files.save_monitor(5, arrays(5.0))
    damage(root / "monitor-0.npz", how)
    assert files.load_monitor(4) is None
    assert_same(files.load_monitor(5), arrays(5.0))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_shard_is_absent(files, root, how):
    files.save(0, arrays(0.0))
    files.save(1, arrays(1.0))
    damage(root / "shard-0000.npz", how)
    assert files.load(0) is None
    assert_same(files.load(1), arrays(1.0))


@pytest.mark.parametrize(("flipped", "first"), [(0x01, 0), (0x80, 2), (0xFF, 5)])
def test_no_damaged_byte_is_an_error_or_gives_other_numbers(files, root, flipped, first):
    files.save_monitor(4, arrays(4.0))
    path = root / "monitor-0.npz"
    content = bytearray(path.read_bytes())
    n_absent = 0
    positions = range(first, len(content), 8)  # headers and the directory among them
    for at in positions:
        content[at] ^= flipped
        path.write_bytes(content)
        content[at] ^= flipped
        found = files.load_monitor(4)
        n_absent += found is None
        if found is not None:  # padding, times and the like
            assert_same(found, arrays(4.0))
    assert n_absent > len(positions) / 2


def test_a_monitor_is_written_over_a_damaged_one(files, root):
    files.save_monitor(4, arrays(4.0))
    damage(root / "monitor-0.npz", "cut short")
    files.save_monitor(4, arrays(5.0))
    assert_same(files.load_monitor(4), arrays(5.0))


def test_shards_and_the_monitor_do_not_share_files(files):
    files.save(0, arrays(1.0))
    files.save_monitor(0, arrays(2.0))
    assert_same(files.load(0), arrays(1.0))
    assert_same(files.load_monitor(0), arrays(2.0))


def test_where_a_file_stands_no_directory_can_be_made(tmp_path):
    (tmp_path / "state").write_text("no directory")
    files = FileCheckpoints(tmp_path / "state" / "checkpoints")
    with pytest.raises(StoreError, match=r"monitor-1\.npz: cannot be written"):
        files.save_monitor(3, arrays(1.0))
    with pytest.raises(StoreError, match=r"shard-0000\.npz: cannot be written"):
        files.save(0, arrays(1.0))
    assert files.load_monitor(3) is None
    assert files.load(0) is None


@pytest.mark.skipif(ROOT_MAY_WRITE_ANYWHERE, reason="root may write to any directory")
def test_a_directory_that_may_not_be_written_is_told_and_keeps_what_it_has(files, root):
    files.save_monitor(3, arrays(3.0))
    root.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            files.save_monitor(5, arrays(5.0))
        assert_same(files.load_monitor(3), arrays(3.0))
    finally:
        root.chmod(0o700)


def test_a_write_that_fails_halfway_leaves_the_old_checkpoint(files, root, monkeypatch):
    files.save_monitor(3, arrays(3.0))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        files.save_monitor(5, arrays(5.0))
    assert files.load_monitor(5) is None
    assert_same(files.load_monitor(3), arrays(3.0))


def test_what_a_crash_left_half_written_is_never_read(files, root):
    files.save_monitor(3, arrays(3.0))
    (root / ".monitor-1.npz.1.tmp").write_bytes(b"half a file")
    assert_same(files.load_monitor(3), arrays(3.0))


def test_checkpoints_travel_to_processes_with_other_working_directories(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    files = FileCheckpoints(Path("checkpoints"))
    files.save_monitor(3, arrays(3.0))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_same(pickle.loads(pickle.dumps(files)).load_monitor(3), arrays(3.0))


def test_no_checkpoints_keep_nothing():
    nothing: Checkpoints = NoCheckpoints()
    nothing.save(0, arrays(1.0))
    nothing.save_monitor(3, arrays(1.0))
    assert nothing.load(0) is None
    assert nothing.load_monitor(3) is None

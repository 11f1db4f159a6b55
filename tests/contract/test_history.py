"""Both histories keep the same promises; the one on disk also those about crashes."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from mlma.adapters.history import ParquetHistory
from mlma.adapters.memory_history import MemoryHistory
from mlma.core.blocks import (
    ArrivedBlock,
    ForecastBlock,
    LossBlock,
    MemberBlock,
    ObservationBlock,
    PoolBlock,
    RefitBlock,
)
from mlma.core.errors import StoreError
from mlma.runtime.ports import History


@pytest.fixture(params=["parquet", "memory"])
def history(request, tmp_path) -> History:
    return ParquetHistory(tmp_path / "history") if request.param == "parquet" else MemoryHistory()


@pytest.fixture
def on_disk(tmp_path) -> ParquetHistory:
    return ParquetHistory(tmp_path / "history")


def observed(slots, y=None, stream=0):
    slots = np.asarray(slots, dtype=np.int64)
    return ObservationBlock(
        stream_id=np.full(len(slots), stream, dtype=np.int64),
        slot=slots,
        y=np.asarray(slots if y is None else y, dtype=np.float64),
    )


def forecast(origin, n=3, *, streams=(0, 1)):
    stream = np.repeat(np.asarray(streams, dtype=np.int64), n)
    return ForecastBlock(
        origin_first=origin,
        origin_last=origin,
        stream_id=stream,
        slot=np.tile(np.arange(origin, origin + n), len(streams)),
        forecast=np.where(stream == 0, np.nan, 1.5),
        naive=stream + 0.25,
        version=stream % 2,
        versions=("naive", "1-0-0"),
    )


def losses(batch, streams=(4, 7), n=3):
    y = batch * 100 + np.arange(len(streams) * n, dtype=np.float64).reshape(len(streams), n)
    y[0, 0] = np.nan
    return LossBlock(batch=batch, stream_ids=np.array(streams), y=y, forecast=y + 1, naive=y + 2)


def read(history, shard=0, after=0, up_to=99, first=0, **more):
    return history.observations(shard, after_seq=after, up_to_seq=up_to, first_slot=first, **more)


def test_observations_come_back_in_order_of_seq_within_the_asked_range(history):
    for seq in (10, 2, 7):
        history.append_observations(seq, 0, observed([seq, seq + 1]))
    history.append_observations(3, 1, observed([3]))
    assert [seq for seq, _ in read(history)] == [2, 7, 10]
    assert [seq for seq, _ in read(history, after=2, up_to=7)] == [7]
    (_, block), *_ = read(history)
    assert (block.slot.tolist(), block.y.tolist()) == ([2, 3], [2.0, 3.0])
    assert block.slot.dtype == np.int64
    assert block.y.dtype == np.float64


def test_observations_before_the_first_slot_and_empty_blocks_are_left_out(history):
    history.append_observations(1, 0, observed([1, 5]))
    history.append_observations(2, 0, observed([2]))
    history.append_observations(3, 0, observed([]))
    assert [(seq, b.slot.tolist()) for seq, b in read(history, first=5)] == [(1, [5])]


def test_writing_the_same_key_again_replaces_and_never_doubles(history):
    history.append_observations(1, 0, observed([1, 2]))
    history.append_observations(1, 0, observed([1, 2]))
    history.append_forecasts(0, forecast(24))
    history.append_forecasts(0, forecast(24))
    history.append_losses(0, losses(3))
    history.append_losses(0, losses(3))
    assert len(read(history)) == 1
    assert len(history.forecasts(0, first_slot=0, last_slot=99)) == 1
    assert len(history.losses(0, first_batch=0, last_batch=9)) == 1


def test_observations_that_were_never_recorded_are_discarded_in_all_shards(history):
    for seq in (1, 2, 3):
        for shard in (0, 1):
            history.append_observations(seq, shard, observed([seq]))
    history.discard_observations_after(1)
    history.discard_observations_after(1)
    assert [[seq for seq, _ in read(history, shard)] for shard in (0, 1)] == [[1], [1]]


def test_forecasts_come_back_by_target_in_order_of_origin(history):
    for origin in (1_000_000, 3, 0):
        history.append_forecasts(0, forecast(origin))
    found = history.forecasts(0, first_slot=2, last_slot=4)
    assert [(b.origin_first, sorted(set(b.slot.tolist()))) for b in found] == [(0, [2]), (3, [3, 4])]
    block = found[1]
    assert [block.versions[v] for v in block.version] == ["naive", "naive", "1-0-0", "1-0-0"]
    np.testing.assert_array_equal(block.forecast, [np.nan, np.nan, 1.5, 1.5])
    np.testing.assert_array_equal(block.naive, [0.25, 0.25, 1.25, 1.25])


def test_forecasts_of_earlier_origins_can_be_left_out(history):
    for origin in (0, 3, 6):
        history.append_forecasts(0, forecast(origin))
    found = history.forecasts(0, first_slot=0, last_slot=99, first_origin=3)
    assert [b.origin_first for b in found] == [3, 6]


def test_forecasts_of_earlier_origins_are_not_even_opened(on_disk):
    for origin in (0, 3):
        on_disk.append_forecasts(0, forecast(origin))
    (on_disk.root / "forecasts" / "shard=0" / "000000000000-000000000000.parquet").write_bytes(b"damaged")
    with pytest.raises(StoreError):
        on_disk.forecasts(0, first_slot=3, last_slot=5)
    assert len(on_disk.forecasts(0, first_slot=3, last_slot=5, first_origin=3)) == 1


def test_losses_come_back_as_they_were_with_their_missing_values(history):
    for batch in (2, 0, 5):
        history.append_losses(0, losses(batch))
    found = history.losses(0, first_batch=1, last_batch=5)
    assert [b.batch for b in found] == [2, 5]
    for got, put in zip(found, (losses(2), losses(5)), strict=True):
        for column in ("stream_ids", "y", "forecast", "naive"):
            np.testing.assert_array_equal(getattr(got, column), getattr(put, column))


def test_one_stream_can_be_read_alone(history):
    history.append_observations(1, 0, observed([1], stream=4))
    history.append_observations(2, 0, observed([1, 2], stream=7))
    history.append_forecasts(0, forecast(0, streams=(4, 7)))
    history.append_losses(0, losses(1))
    assert [seq for seq, _ in read(history, stream_id=7)] == [2]
    (block,) = history.forecasts(0, first_slot=0, last_slot=9, stream_id=7)
    assert set(block.stream_id.tolist()) == {7}
    assert [block.versions[v] for v in block.version] == ["1-0-0"] * 3
    (batch,) = history.losses(0, first_batch=0, last_batch=9, stream_id=7)
    assert batch.stream_ids.tolist() == [7]
    np.testing.assert_array_equal(batch.y, losses(1).y[1:])
    assert history.losses(0, first_batch=0, last_batch=9, stream_id=99) == []


def test_a_shard_that_never_wrote_is_empty(history):
    assert read(history, shard=5) == []
    assert history.forecasts(5, first_slot=0, last_slot=9) == []
    assert history.losses(5, first_batch=0, last_batch=9) == []
    history.discard_observations_after(0)


def test_a_history_can_be_sent_to_another_process(history):
    history.append_observations(1, 0, observed([1, 2]))
    other = pickle.loads(pickle.dumps(history))
    assert [(seq, b.slot.tolist()) for seq, b in read(other)] == [(1, [1, 2])]


def test_files_have_names_that_sort_and_any_tool_can_read_them(on_disk):
    on_disk.append_observations(12, 3, observed([1, 2]))
    on_disk.append_forecasts(3, forecast(24))
    on_disk.append_losses(3, losses(7))
    names = sorted(str(p.relative_to(on_disk.root)) for p in on_disk.root.rglob("*.parquet"))
    assert names == [
        "forecasts/shard=3/000000000024-000000000024.parquet",
        "losses/shard=3/000000000007.parquet",
        "observations/shard=3/000000000012.parquet",
    ]
    whole = pq.read_table(on_disk.root / "observations")
    assert whole.column("slot").to_pylist() == [1, 2]


def test_what_a_crash_left_half_written_is_ignored_and_cleared(on_disk):
    on_disk.append_observations(1, 0, observed([1]))
    (whole,) = on_disk.root.rglob("*.parquet")
    left = whole.with_name(".000000000002.parquet.99.tmp")
    left.write_bytes(whole.read_bytes()[:40])
    assert [seq for seq, _ in read(on_disk)] == [1]
    on_disk.discard_observations_after(1)
    assert not left.exists()
    assert whole.exists()


@pytest.mark.parametrize("kind", ["observations", "forecasts", "losses"])
def test_a_truncated_file_is_named(on_disk, kind):
    on_disk.append_observations(1, 0, observed([1]))
    on_disk.append_forecasts(0, forecast(0))
    on_disk.append_losses(0, losses(0))
    (path,) = (on_disk.root / kind).rglob("*.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=str(path)):
        {
            "observations": lambda: read(on_disk),
            "forecasts": lambda: on_disk.forecasts(0, first_slot=0, last_slot=9),
            "losses": lambda: on_disk.losses(0, first_batch=0, last_batch=9),
        }[kind]()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    blocker = tmp_path / "history"
    blocker.write_text("a file where a directory should be")
    with pytest.raises(StoreError, match="cannot be written"):
        ParquetHistory(blocker).append_observations(1, 0, observed([1]))


def test_a_write_that_fails_leaves_the_former_content(on_disk, monkeypatch):
    on_disk.append_observations(1, 0, observed([1]))

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match="No space left"):
        on_disk.append_observations(1, 0, observed([2]))
    assert [b.slot.tolist() for _, b in read(on_disk)] == [[1]]


def member_block(origin, weight=0.5):
    return MemberBlock(
        origin_first=origin,
        origin_last=origin + 3,
        stream_id=np.array([0, 0, 4]),
        seat=np.array([0, 2, 0]),
        member=np.array([0, 1, 0]),
        members=("naive", "0-3-0"),
        weight=np.array([weight, 1 - weight, 1.0]),
        inner=np.array([1.0, 1.0, 0.5]),
        shift=np.array([0.0, 0.25, 0.0]),
        slope=np.array([1.0, 0.75, 1.0]),
        forecast=np.array([[1.0, np.nan], [2.0, 3.0], [np.nan, np.nan]]),
    )


def pool_block(batch):
    return PoolBlock(
        batch=batch,
        stream_id=np.array([0, 0, 4]),
        seat=np.array([0, 2, 0]),
        member=np.array([0, 1, 0]),
        members=("naive", "0-3-0"),
        loss=np.array([1.0, np.nan, 3.0]),
        recent=np.array([1.5, np.nan, 2.0]),
        mass=np.array([0.5, 0.0, 0.75]),
        weight=np.array([0.25, 0.75, 1.0]),
        recalibration=np.arange(6.0).reshape(3, 2),
        comparison=np.arange(9.0).reshape(3, 3),
        account={"debt": np.array([0.5, 0.0]), "loss_n": np.array([3.0, 1.0])},
    )


def assert_same_block(found, wanted):
    for name in wanted.__dataclass_fields__:
        value = getattr(wanted, name)
        if isinstance(value, dict):
            np.testing.assert_equal(dict(getattr(found, name)), value)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert getattr(found, name) == value


def test_members_come_back_in_order_of_origin_with_their_weights(history):
    for origin in (6, 3, 9):
        history.append_members(1, member_block(origin, weight=origin / 10))
    found = history.members(1, first_origin=3, last_origin=9)
    assert [block.origin_first for block in found] == [3, 6]
    assert_same_block(found[0], member_block(3, weight=0.3))
    assert history.members(0, first_origin=0, last_origin=99) == []


def test_members_of_one_stream_come_back_alone(history):
    history.append_members(1, member_block(3, weight=0.25))
    (found,) = history.members(1, first_origin=0, last_origin=99, stream_id=0)
    assert [found.members[code] for code in found.member] == ["naive", "0-3-0"]
    assert (found.weight.tolist(), found.shift.tolist(), found.forecast.shape) == ([0.25, 0.75], [0.0, 0.25], (2, 2))
    (none,) = history.members(1, first_origin=0, last_origin=99, stream_id=3)
    assert len(none.seat) == 0


def test_pools_of_a_batch_come_back_whole_or_for_one_stream(history):
    history.append_pool(pool_block(7))
    assert_same_block(history.pool(7), pool_block(7))
    assert history.pool(7, stream_id=4).recent.tolist() == [2.0]
    assert history.pool(8) is None


def test_what_evergreen_members_learned_comes_back_as_it_was(history):
    learned = RefitBlock(
        batch=5, stream_ids=np.array([1, 3]), families=("ridge", "damped"), parameters=np.arange(12.0).reshape(2, 6)
    )
    history.append_refit(1, learned)
    assert_same_block(history.refit(1, 5), learned)
    assert history.refit(1, 4) is None
    assert history.refit(0, 5) is None


def test_what_evergreen_members_learned_long_ago_is_forgotten(on_disk):
    for shard in (0, 1):
        for batch in range(10):
            on_disk.append_refit(
                shard,
                RefitBlock(batch=batch, stream_ids=np.arange(2), families=("ridge",), parameters=np.ones((2, 3))),
            )
    for shard in (0, 1):
        kept = [batch for batch in range(10) if on_disk.refit(shard, batch) is not None]
        assert kept == [6, 7, 8, 9]


def arrived(slots, version="prod-1"):
    slots = np.asarray(slots, dtype=np.int64)
    nobody = np.zeros(len(slots), dtype=np.int64)
    return ArrivedBlock(stream_id=nobody, slot=slots, forecast=slots + 0.5, version=nobody, versions=(version,))


def read_arrived(history, after=0, up_to=99, first=0):
    return [
        (seq, block.slot.tolist(), block.forecast.tolist(), [block.versions[code] for code in block.version])
        for seq, block in history.arrived(0, after_seq=after, up_to_seq=up_to, first_slot=first)
    ]


def test_forecasts_made_elsewhere_come_back_in_order_of_seq_within_the_asked_range(history):
    for seq, slots, version in ((3, [5, 6], "b"), (1, [4], "a"), (2, [1, 9], "a")):
        history.append_arrived(seq, 0, arrived(slots, version))
    everything = [(1, [4], [4.5], ["a"]), (2, [1, 9], [1.5, 9.5], ["a"] * 2), (3, [5, 6], [5.5, 6.5], ["b"] * 2)]
    assert read_arrived(history) == everything
    assert read_arrived(history, after=1, up_to=2) == everything[1:2]
    assert read_arrived(history, first=5) == [(2, [9], [9.5], ["a"]), everything[2]]
    assert history.arrived(1, after_seq=0, up_to_seq=9, first_slot=0) == []


def test_forecasts_of_files_that_were_never_recorded_are_discarded(history):
    for seq in (1, 2, 2, 3):
        history.append_arrived(seq, 0, arrived([seq]))
    history.discard_observations_after(1)
    assert [seq for seq, *_ in read_arrived(history)] == [1]

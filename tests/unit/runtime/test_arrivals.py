"""Forecasts that have arrived are found again by stream, version and slot, however they came."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.adapters.memory_history import MemoryHistory
from mlma.core.blocks import ArrivedBlock
from mlma.runtime.arrivals import Arrivals

FORECASTS = st.tuples(st.integers(0, 3), st.integers(0, 30), st.sampled_from(["a", "b", "c"]))
"""Stream, slot and version."""


def block_of(found: list[tuple[int, int, str]], value: float) -> ArrivedBlock:
    names = sorted({version for _, _, version in found})
    return ArrivedBlock(
        stream_id=np.asarray([stream for stream, _, _ in found], dtype=np.int64),
        slot=np.asarray([slot for _, slot, _ in found], dtype=np.int64),
        forecast=np.arange(len(found)) + value,
        version=np.asarray([names.index(version) for _, _, version in found], dtype=np.int64),
        versions=tuple(names),
    )


def named(arrivals: Arrivals, stream: int, first: int, before: int) -> tuple[str, ...]:
    return arrivals.versions(np.asarray([stream]), first, before).get(stream, ())


@settings(max_examples=50, deadline=None)
@given(
    files=st.lists(st.sets(FORECASTS, min_size=1, max_size=12).map(sorted), max_size=5), forgotten=st.integers(0, 31)
)
def test_what_is_found_is_what_a_dictionary_would_hold(files: list[list[tuple[int, int, str]]], forgotten: int) -> None:
    history, kept = MemoryHistory(), {}
    arrivals = Arrivals(0, history)
    for seq, found in enumerate(files, start=1):
        block = block_of(found, 100.0 * seq)
        for key, value in zip(found, block.forecast.tolist(), strict=True):
            kept.setdefault(key, value)
        history.append_arrived(seq, 0, block)
        arrivals.sync(seq, 0)
        assert arrivals.has(block).all()
    arrivals.sync(len(files), forgotten)
    again = Arrivals(0, history)
    again.sync(len(files), forgotten)  # as after a restart
    for stream in range(4):
        for version in "abcd":
            wanted = [kept.get((stream, slot, version), np.nan) if slot >= forgotten else np.nan for slot in range(31)]
            for one in (arrivals, again):
                np.testing.assert_array_equal(one.of(stream, version, 0, 31), wanted)
        there = {version for (i, slot, version) in kept if i == stream and 5 <= slot < 20}
        assert set(named(arrivals, stream, 5, 20)) == there  # whatever was forgotten
        assert named(arrivals, stream, 5, 20) == named(again, stream, 5, 20)
    every = [(stream, slot, version) for stream in range(4) for slot in range(31) for version in "abcd"]
    wanted_known = [key in kept and key[1] >= forgotten for key in every]
    assert arrivals.has(block_of(every, 0.0)).tolist() == wanted_known


def test_the_newest_version_is_the_one_whose_latest_forecast_came_last() -> None:
    history = MemoryHistory()
    history.append_arrived(1, 0, block_of([(0, 9, "old"), (0, 3, "new")], 0.0))
    history.append_arrived(2, 0, block_of([(0, 4, "new")], 0.0))
    history.append_arrived(3, 0, block_of([(0, 12, "later"), (1, 3, "other")], 0.0))
    arrivals = Arrivals(0, history)
    arrivals.sync(3, 0)
    assert named(arrivals, 0, 0, 10) == ("new", "old")
    assert named(arrivals, 0, 0, 13) == ("later", "new", "old")
    assert named(arrivals, 0, 5, 13) == ("later", "old")

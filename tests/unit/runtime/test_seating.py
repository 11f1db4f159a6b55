"""Who sits where: seats are given, found, left and counted."""

from datetime import UTC, datetime

import numpy as np
import pytest

from mlma.core.decisions import Role
from mlma.core.records import Version
from mlma.runtime.seating import NOBODY, Seating

NAN = float("nan")


def version(stream_id: int, batch: int) -> Version:
    return Version(
        id=f"{stream_id}-{batch}-0", stream_id=stream_id, batch=batch, role=Role.CHALLENGER, family="ridge",
        sha256=f"hash-{batch}", size_bytes=1, n_rows=8, fit_cpu_s=0.1, trained_at=datetime(2024, 1, 1, tzinfo=UTC),
    )  # fmt: skip


@pytest.fixture
def seating() -> Seating:
    """Three streams with two fixed seats and two for versions; the first is led by its newer version."""
    made = Seating(n_fixed=2, n_seats=4)
    made.grow(3)
    made.sit(1, 2, version(1, 9))
    made.sit(0, 3, version(0, 7))
    made.sit(0, 2, version(0, 4))
    made.leader[0] = 3
    return made


def test_the_first_free_seat_is_behind_the_fixed_ones(seating: Seating) -> None:
    assert [seating.free(stream) for stream in range(3)] == [None, 3, 2]


def test_a_version_is_found_by_its_id(seating: Seating) -> None:
    assert (seating.seat_of(0, "0-7-0"), seating.seat_of(0, "1-9-0"), seating.seat_of(2, "0-7-0")) == (3, None, None)


def test_who_leaves_frees_its_seat_and_leads_no_more(seating: Seating) -> None:
    assert seating.leave(0, ["0-7-0", "unknown"]) == [3]
    assert (seating.free(0), seating.leader.tolist()) == (3, [0, 0, 0])
    assert seating.leave(2, ["0-7-0"]) == []


def test_what_is_recorded_does_not_depend_on_the_order_of_trainings(seating: Seating) -> None:
    assert [(stream, seat) for stream, seat, _ in seating.in_order()] == [(0, 2), (0, 3), (1, 2)]


def test_batches_of_trainings_by_seat(seating: Seating) -> None:
    assert seating.trained().tolist() == [[NOBODY] * 2 + [4, 7], [NOBODY] * 2 + [9, NOBODY], [NOBODY] * 4]
    assert seating.taken().sum(axis=1).tolist() == [2, 1, 0]


def test_born_streams_have_no_leader(seating: Seating) -> None:
    seating.grow(5)
    assert seating.leader.tolist() == [3, 0, 0, 0, 0]


def test_a_stream_whose_champion_has_no_loss_is_leaderless(seating: Seating) -> None:
    loss = np.array([[1.0, 1.0, 1.0, NAN], [NAN] * 4, [1.0] * 4])
    assert seating.leaderless(loss).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("losses", "older_than", "silent"),
    [
        ([1.0, 1.0, NAN, 1.0], 5, [(0, "0-4-0")]),
        ([1.0, 1.0, NAN, 1.0], 4, []),  # it may still come
        ([1.0, 1.0, NAN, NAN], 99, []),  # the champion is silent too
        ([1.0, 1.0, 1.0, 1.0], 99, []),
    ],
)
def test_old_versions_are_silent_where_their_champion_speaks(
    seating: Seating, losses: list[float], older_than: int, silent: list[tuple[int, str]]
) -> None:
    loss = np.array([losses, [NAN] * 4, [NAN] * 4])
    assert seating.silent(loss, older_than=older_than) == silent


def test_artifacts_of_all_that_sit(seating: Seating) -> None:
    assert seating.artifacts() == {"hash-4", "hash-7", "hash-9"}

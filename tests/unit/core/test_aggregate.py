from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from mlma.core.admission import AdmissionState, Admitted, admit
from mlma.core.aggregate import aggregated
from mlma.core.rows import NO_TIME, Rows
from mlma.core.schedule import Schedule
from mlma.core.settings import AdmissionSettings

HOUR = timedelta(hours=1)
MINUTE_US = 60_000_000
START = 1_704_067_200_000_000  # 2024-01-01 UTC, in microseconds since 1970
NAN = float("nan")


def rows(
    minutes: list[float | None], y: list[float], code: list[int] | None = None, **cells: Mapping[int, str]
) -> Rows:
    n = len(y)
    return Rows(
        stream_code=np.array([0] * n if code is None else code, dtype=np.int64),
        stream_names=("a", "b"),
        time_us=np.array([NO_TIME if m is None else START + int(m * MINUTE_US) for m in minutes], dtype=np.int64),
        y=np.array(y, dtype=np.float64),
        row=np.arange(1, n + 1),
        **cells,  # type: ignore[arg-type]
    )


def hours_of(made: Rows) -> dict[tuple[int, float], float]:
    at = (made.time_us - START) / (60 * MINUTE_US)
    return {(c, t): v for c, t, v in zip(made.stream_code.tolist(), at.tolist(), made.y.tolist(), strict=True)}


def admitted(made: Rows) -> Admitted:
    schedule = Schedule(anchor=datetime(2024, 1, 1, tzinfo=UTC), frequency=HOUR, horizon=6, batch=24, train_window=48)
    return admit(
        made, schedule=schedule, streams={}, state=AdmissionState(), settings=AdmissionSettings(), now=None, seq=1,
        path="f",
    )  # fmt: skip


def test_quarters_of_an_hour_add_up_to_hours() -> None:
    made, said = aggregated(rows([0, 15, 30, 45, 60, 75], [1, 2, 3, 4, 5, 6]), HOUR, "sum")
    assert hours_of(made) == {(0, 0.0): 10.0, (0, 1.0): 11.0}
    assert said == "sum of up to 4 rows a slot: the data has a step of 0:15:00"


def test_levels_are_averaged_over_the_rows_that_are_there() -> None:
    made, _ = aggregated(rows([0, 15, 30, 45, 60, 75], [1, 2, 3, 4, 5, 6]), HOUR, "mean")
    assert hours_of(made) == {(0, 0.0): 2.5, (0, 1.0): 5.5}


def test_a_gap_lets_an_hour_out_and_never_makes_a_zero() -> None:
    made, _ = aggregated(rows([0, 15, 30, 45, 180, 195], [1, 1, 1, 1, 2, 2]), HOUR, "sum")
    assert hours_of(made) == {(0, 0.0): 4.0, (0, 3.0): 4.0}


def test_streams_are_not_mixed_and_the_order_of_rows_does_not_matter() -> None:
    minutes, y, code = [0, 15, 0, 15, 60, 60], [1.0, 2.0, 10.0, 20.0, 5.0, 50.0], [0, 0, 1, 1, 0, 1]
    expected = {(0, 0.0): 3.0, (1, 0.0): 30.0, (0, 1.0): 5.0, (1, 1.0): 50.0}
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0], [2, 0, 5, 1, 4, 3]):
        shuffled = rows([minutes[i] for i in order], [y[i] for i in order], [code[i] for i in order])
        assert hours_of(aggregated(shuffled, HOUR, "sum")[0]) == expected


def test_a_repeated_row_counts_once_and_is_refused_afterwards() -> None:
    made, _ = aggregated(rows([0, 15, 15, 30, 45], [1, 2, 2, 3, 4]), HOUR, "sum")
    found = admitted(made)
    assert found.block.y.tolist() == [10.0]
    assert [(r.reason.value, r.count, r.row) for r in found.rejected] == [("duplicate", 1, 3)]


def test_unreadable_cells_are_preserved_with_their_row_and_text() -> None:
    given = rows(
        [0, 15, 30, None, 60, 75, 90], [1, NAN, 3, 4, float("inf"), 6, NAN],
        [0, 0, 0, 0, 0, -1, 0], y_text={1: "n/a"}, time_text={3: "noon"}, broken={6: "a,b,c,d"},
    )  # fmt: skip
    made, said = aggregated(given, HOUR, "sum")
    assert said
    assert {int(made.row[i]): text for i, text in made.y_text.items()} == {2: "n/a"}
    assert {int(made.row[i]): text for i, text in made.time_text.items()} == {4: "noon"}
    assert {int(made.row[i]): text for i, text in made.broken.items()} == {7: "a,b,c,d"}
    found = admitted(made)
    assert sorted((r.reason.value, r.row) for r in found.rejected) == [
        ("bad_stream", 6), ("bad_time", 4), ("not_a_number", 2), ("not_finite", 5), ("unreadable", 7),
    ]  # fmt: skip
    assert found.block.y.tolist() == [4.0]


def test_missing_values_are_not_demand() -> None:
    made, _ = aggregated(rows([0, 15, 30, 45], [1, NAN, 3, NAN]), HOUR, "sum")
    found = admitted(made)
    assert found.block.y.tolist() == [4.0]
    assert (found.n_missing, found.n_rejected) == (2, 0)


def test_a_stream_without_any_value_is_still_known_by_its_name() -> None:
    made, _ = aggregated(rows([0, 15, 0, 15], [1, 2, NAN, NAN], [0, 0, 1, 1]), HOUR, "sum")
    assert [stream.name for stream in admitted(made).births] == ["a", "b"]


@pytest.mark.parametrize("how", ["sum", "mean"])
def test_a_file_without_any_value_stays_empty(how: str) -> None:
    made, _ = aggregated(rows([0, 15, 30], [NAN, NAN, NAN]), HOUR, how)
    assert admitted(made).n_admitted == 0


@pytest.mark.parametrize(
    ("minutes", "what"),
    [
        ([0, 60, 120], "on the grid already"),
        ([0, 120, 240], "coarser than the grid"),
        ([0, 25, 50], "a step that does not divide an hour"),
        ([0, 15, 22], "no common step"),
        ([0], "a single row"),
        ([None, None], "no readable time"),
        ([], "no rows"),
    ],
)
def test_anything_but_a_finer_regular_grid_is_left_for_the_admission(minutes: list[float | None], what: str) -> None:
    given = rows(minutes, [1.0] * len(minutes))
    made, said = aggregated(given, HOUR, "sum")
    assert said == "", what
    assert made is given


@pytest.mark.parametrize(("step", "per_hour"), [(1, 60), (5, 12), (10, 6), (20, 3), (30, 2)])
def test_any_step_that_divides_the_hour_is_taken(step: int, per_hour: int) -> None:
    minutes = list(range(0, 120, step))
    made, said = aggregated(rows(minutes, [1.0] * len(minutes)), HOUR, "sum")
    assert set(hours_of(made).values()) == {float(per_hour)}
    assert f"up to {per_hour} rows" in said


def test_days_start_at_midnight_utc() -> None:
    minutes = list(range(18 * 60, 54 * 60, 60))
    made, _ = aggregated(rows(minutes, [1.0] * len(minutes)), timedelta(days=1), "sum")
    assert list(hours_of(made).values()) == [6.0, 24.0, 6.0]
    assert {b - a for a, b in pairwise(made.time_us.tolist())} == {24 * 60 * MINUTE_US}


def test_a_few_stray_rows_do_not_make_a_file_finer() -> None:
    hourly = [60.0 * hour for hour in range(20)]
    given = rows([*hourly, 90.0], [*range(20), 5.0])
    made, said = aggregated(given, HOUR, "sum")
    assert said == ""
    assert made is given
    assert admitted(made).n_rejected == 1

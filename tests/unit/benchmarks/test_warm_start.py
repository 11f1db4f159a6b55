"""Ways to renew a model: when each learns from scratch, adds trees, or renews the leaves."""

import numpy as np
import pytest

from benchmarks.warm_start import Renewed, Way, table


def rows(level: float) -> tuple[np.ndarray, np.ndarray]:
    X = np.arange(400.0)[:, None] % 20
    return X, level + X[:, 0]


@pytest.mark.parametrize(
    ("way", "trees"),
    [
        (Way(name="once"), [60, 60, 60, 60]),
        (Way(name="more", warm=2, trees=5), [60, 60, 65, 65]),
        (Way(name="leaves", warm=1), [60, 60, 60, 60]),
        (Way(name="both", scratch=3, warm=1, trees=5), [60, 65, 70, 60]),
    ],
)
def test_each_way_learns_at_its_batches(way: Way, trees: list[int]) -> None:
    made, found = Renewed(way), []
    for batch in range(4):
        made.renew(batch, *rows(100.0))
        assert made.model is not None
        found.append(made.model.num_trees())
    assert found == trees
    assert made.cpu_s > 0.0


@pytest.mark.parametrize(
    ("way", "expected"), [(Way(name="once"), 100.0), (Way(name="leaves", warm=1, decay=0.0), 130.0)]
)
def test_new_leaf_values_follow_a_new_level_and_an_old_model_does_not(way: Way, expected: float) -> None:
    made = Renewed(way)
    made.renew(0, *rows(100.0))
    made.renew(1, *rows(130.0))
    assert made.predict(np.array([[0.0]])) == pytest.approx(expected, abs=3.0)


def test_figures_are_relative_to_the_first_way() -> None:
    shown = table("x", np.array([[2.0, 4.0]] * 8 + [[1.0, 4.0]]), np.linspace(10.0, 2.0, 9))
    assert [list(column.cells)[-1] for column in shown.columns][1:] == ["0.750", "0.200", "0.810"]

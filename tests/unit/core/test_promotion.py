import numpy as np
import pytest

from mlma.core.promotion import prove

NAN, INF = float("nan"), float("inf")

TABLE = [
    # candidate, champion, floor -> better, n
    pytest.param([1.0, 1.0], [2.0, 2.0], 0.0, True, 2, id="better"),
    pytest.param([2.0, 2.0], [1.0, 1.0], 0.0, False, 2, id="worse"),
    pytest.param([1.0, 1.0], [1.0, 1.0], 0.0, False, 2, id="a tie stays with the champion"),
    pytest.param([0.90], [1.0], 0.1, False, 1, id="exactly the floor is not more than it"),
    pytest.param([0.89], [1.0], 0.1, True, 1, id="more than the floor"),
    pytest.param([1.0, NAN], [2.0, NAN], 0.0, True, 1, id="a target without an outcome counts for nobody"),
    pytest.param([1.0, 1.0], [2.0, NAN], 0.0, True, 1, id="a target that the champion missed is not counted"),
    pytest.param([1.0, NAN], [2.0, 2.0], 0.0, False, 1, id="a candidate that leaves a target out has no proof"),
    pytest.param([1.0, INF], [2.0, 2.0], 0.0, False, 1, id="an infinite loss is no proof"),
    pytest.param([NAN, NAN], [2.0, 2.0], 0.0, False, 0, id="no forecast"),
    pytest.param([1.0], [NAN], 0.0, False, 0, id="nothing to compare with"),
    pytest.param([], [], 0.0, False, 0, id="no targets"),
    pytest.param([0.0], [0.0], 0.0, False, 1, id="two perfect ones"),
    pytest.param([1.0], [0.0], 0.0, False, 1, id="against a perfect champion"),
    pytest.param([0.0], [1.0], 0.99, True, 1, id="a perfect candidate"),
]


@pytest.mark.parametrize(("candidate", "champion", "floor", "better", "n"), TABLE)
def test_a_candidate_must_beat_the_champion_on_the_same_targets(
    candidate: list[float], champion: list[float], floor: float, better: bool, n: int
) -> None:
    proof = prove(np.array(candidate), np.array(champion), floor=floor)
    assert (proof.better, proof.n) == (better, n)


def test_the_gain_is_the_share_of_the_champions_loss_that_is_saved() -> None:
    proof = prove(np.array([1.0, 2.0]), np.array([2.0, 4.0]), floor=0.0)
    assert (proof.candidate_loss, proof.champion_loss, proof.gain) == (1.5, 3.0, 0.5)


def test_a_proof_is_told_in_words_and_numbers() -> None:
    assert str(prove(np.array([1.0]), np.array([2.0]), floor=0.0)) == (
        "candidate 1 against champion 2 on 1 held-out targets (-50.0%)"
    )
    assert str(prove(np.array([NAN]), np.array([2.0]), floor=0.0)) == (
        "no held-out target has an outcome and both forecasts"
    )


def test_without_targets_there_is_no_gain() -> None:
    assert np.isnan(prove(np.array([NAN]), np.array([1.0]), floor=0.0).gain)

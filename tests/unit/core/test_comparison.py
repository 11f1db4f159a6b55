import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlma.core.blocks import Floats
from mlma.core.comparison import CAUSES, OUTCOMES, Cause, Comparisons, Outcome, Rule, Rules, Verdicts, fit_spread
from mlma.core.look_level import look_level
from mlma.core.paired_evidence import evidence
from mlma.core.variance_prior import NO_PRIOR, Prior

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
SD, DF = 0.05, 6.0


def prior(rho: float) -> Prior:
    return Prior(df=DF, variance=SD**2 * (1.0 - rho**2))


def differences(rng: np.random.Generator, n: int, *, gain: float = 0.0, rho: float = 0.5, batches: int = 8) -> Floats:
    """Shape (batches, n): AR(1) around the log of the loss ratio, variances from the prior."""
    sd = np.sqrt(DF * SD**2 / rng.chisquare(DF, n))
    noise = [rng.normal(size=n) * sd]
    for _ in range(batches - 1):
        noise.append(rho * noise[-1] + np.sqrt(1.0 - rho**2) * sd * rng.normal(size=n))
    return np.array(noise) + np.log1p(-gain)


def first_outcomes(d: Floats, rules: Rules, known: Prior | None = None) -> tuple[list[Outcome], np.ndarray]:
    """Outcome of every comparison at the batch where it is decided, and that batch (1 is the first)."""
    n = d.shape[1]
    state, active = Comparisons.fresh(n), np.ones(n, dtype=bool)
    outcome, when = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    for batch, row in enumerate(d, start=1):
        verdicts = state.update(row, known or prior(rules.rho), rules, active=active)
        decided = active & (verdicts.outcome > 0)
        outcome[decided], when[decided] = verdicts.outcome[decided], batch
        active &= ~decided
    return [OUTCOMES[code] for code in outcome], when


def share_better(d: Floats, rules: Rules, by: int = 8) -> float:
    outcome, when = first_outcomes(d, rules)
    return float(np.mean([o is Outcome.BETTER and w <= by for o, w in zip(outcome, when, strict=True)]))


def last(state: Comparisons, rows: list[list[float]], known: Prior, rules: Rules) -> Verdicts:
    for row in rows:
        verdicts = state.update(np.array(row), known, rules)
    return verdicts


@pytest.mark.parametrize(("rule", "at_most"), [(Rule.LOOKS, 0.05), (Rule.E_PROCESS, 0.025)])
def test_equals_are_promoted_no_more_often_than_promised_though_batches_depend(rule: Rule, at_most: float) -> None:
    d = differences(np.random.default_rng(3), 20_000)
    n_sd = 3.0 * np.sqrt(0.05 * 0.95 / 20_000)  # three standard errors of the simulation, .0046
    assert share_better(d, Rules(rule=rule)) <= at_most + n_sd


def test_worse_challengers_are_promoted_less_often_than_equals() -> None:
    d = differences(np.random.default_rng(4), 10_000)
    for rule in Rule:
        assert share_better(d + 0.03, Rules(rule=rule)) < share_better(d, Rules(rule=rule))


@pytest.mark.parametrize(
    ("rule", "gain", "rho", "by", "low", "high"),
    [
        (Rule.LOOKS, 0.05, 0.0, 8, 0.63, 0.69),
        (Rule.LOOKS, 0.10, 0.0, 2, 0.56, 0.63),
        (Rule.LOOKS, 0.10, 0.5, 4, 0.68, 0.74),
        (Rule.LOOKS, 0.10, 0.5, 8, 0.84, 0.90),
        (Rule.E_PROCESS, 0.10, 0.0, 1, 0.03, 0.07),  # too weak at first
        (Rule.E_PROCESS, 0.10, 0.0, 8, 0.91, 0.96),
        (Rule.E_PROCESS, 0.10, 0.5, 8, 0.67, 0.74),
    ],
)
def test_gains_are_found_as_often_as_the_docstring_says(
    rule: Rule, gain: float, rho: float, by: int, low: float, high: float
) -> None:
    d = differences(np.random.default_rng(5), 5_000, gain=gain, rho=rho)
    assert low < share_better(d, Rules(rule=rule, rho=rho), by) < high


def test_the_level_holds_when_the_prior_is_fitted_to_the_pairs_themselves() -> None:
    rng = np.random.default_rng(6)
    d = differences(rng, 5_000, rho=0.3)
    state = Comparisons.fresh(300)
    for row in d[:, :300]:
        state.update(row, NO_PRIOR, Rules(rho=0.3))
    fitted = fit_spread(state)
    assert fitted.variance == pytest.approx(prior(0.3).variance, rel=0.15)
    assert 4.0 < fitted.df < 10.0
    outcome, _ = first_outcomes(d[:, 300:], Rules(rho=0.3), fitted)
    assert outcome.count(Outcome.BETTER) / len(outcome) < 0.06


def test_the_e_value_has_mean_one_without_a_gain() -> None:
    rng = np.random.default_rng(7)
    state = Comparisons.fresh(100_000)
    for row in differences(rng, 100_000, batches=3):
        verdicts = state.update(row, prior(0.5), Rules())
    assert np.exp(verdicts.log_e).mean() == pytest.approx(1.0, abs=0.05)


def test_a_reversed_comparison_serves_probation() -> None:
    rows = [[0.12, 0.0], [0.10, 0.0], [0.11, 0.01]]
    forward = last(Comparisons.fresh(2), rows, prior(0.0), Rules(rho=0.0))
    back = last(Comparisons.fresh(2), [[-v for v in row] for row in rows], prior(0.0), Rules(rho=0.0))
    assert OUTCOMES[forward.outcome[0]] is Outcome.NOT_BETTER
    assert CAUSES[forward.cause[0]] is Cause.SHOWN_NOT_BETTER
    assert OUTCOMES[back.outcome[0]] is Outcome.BETTER


def test_the_floor_asks_for_more_than_a_gain() -> None:
    rows = [[-0.06], [-0.05], [-0.07], [-0.06]]
    known = Prior(df=50.0, variance=0.02**2)
    assert OUTCOMES[last(Comparisons.fresh(1), rows, known, Rules(rho=0.0)).outcome[0]] is Outcome.BETTER
    strict = last(Comparisons.fresh(1), rows, known, Rules(rho=0.0, floor=0.10))
    assert OUTCOMES[strict.outcome[0]] is Outcome.NOT_BETTER


def test_a_challenger_without_a_chance_is_given_up_before_the_deadline() -> None:
    rows = [[0.01], [0.0], [0.01], [0.0], [0.01]]
    verdicts = last(Comparisons.fresh(1), rows, Prior(df=50.0, variance=0.05**2), Rules(futility_alpha=1e-6))
    assert CAUSES[verdicts.cause[0]] is Cause.NO_CHANCE


def test_batches_without_evidence_count_towards_the_deadline() -> None:
    state = Comparisons.fresh(1)
    for batch in range(1, 4):
        verdicts = state.update(np.array([np.nan]), prior(0.5), Rules(deadline=3))
        assert CAUSES[verdicts.cause[0]] is (Cause.DEADLINE if batch == 3 else Cause.WAITING)
    assert np.isnan(verdicts.gain[0])
    assert verdicts.log_e[0] == 0.0


def test_inactive_comparisons_are_left_alone() -> None:
    state = Comparisons.fresh(2)
    verdicts = state.update(np.array([-9.0, -9.0]), prior(0.5), Rules(), active=np.array([True, False]))
    assert [OUTCOMES[code] for code in verdicts.outcome] == [Outcome.BETTER, Outcome.UNDECIDED]
    assert state.age.tolist() == [1, 0]


def test_a_gap_weakens_what_the_batch_before_says() -> None:
    rho, d = 0.5, [0.1, np.nan, np.nan, 0.04]
    state = Comparisons.fresh(1)
    for value in d:
        state.update(np.array([value]), prior(rho), Rules(rho=rho, deadline=9))
    covariance = np.array([[1.0, rho**3], [rho**3, 1.0]])  # of the two that came
    values, ones = np.array([0.1, 0.04]), np.ones(2)
    information = ones @ np.linalg.solve(covariance, ones) * (1.0 - rho**2)
    assert state.information[0] == pytest.approx(information)
    assert state.weighted[0] == pytest.approx(ones @ np.linalg.solve(covariance, values) * (1.0 - rho**2))
    assert state.squares[0] == pytest.approx(values @ np.linalg.solve(covariance, values) * (1.0 - rho**2))


def test_versions_that_forecast_alike_are_not_told_apart() -> None:
    for known in (NO_PRIOR, prior(0.5)):
        verdicts = last(Comparisons.fresh(1), [[0.0]] * 8, known, Rules())
        assert OUTCOMES[verdicts.outcome[0]] is Outcome.NOT_BETTER
        assert verdicts.log_e[0] <= 0.0


rows_of_differences = st.lists(
    st.lists(st.floats(-2.0, 2.0) | st.just(float("nan")), min_size=3, max_size=3), min_size=1, max_size=10
)
rules = st.builds(
    Rules,
    rule=st.sampled_from(Rule),
    rho=st.sampled_from([0.0, 0.5, 0.9]),
    floor=st.sampled_from([0.0, 0.05]),
    deadline=st.sampled_from([1, 4, 8]),
)
priors = st.sampled_from([NO_PRIOR, prior(0.5), Prior(df=float("inf"), variance=0.01)])


@given(rows=rows_of_differences, rule=rules, known=priors)
@EXAMPLES
def test_every_comparison_ends_by_its_deadline(rows: list[list[float]], rule: Rules, known: Prior) -> None:
    state = Comparisons.fresh(3)
    for batch, row in enumerate(rows, start=1):
        verdicts = state.update(np.array(row), known, rule)
        assert np.isfinite(verdicts.log_e).all()
        assert batch < rule.deadline or (verdicts.outcome > 0).all()


@given(rows=rows_of_differences, rule=rules, known=priors)
@EXAMPLES
def test_better_and_worse_mirror_each_other(rows: list[list[float]], rule: Rules, known: Prior) -> None:
    one, other = Comparisons.fresh(3), Comparisons.fresh(3)
    for row in rows:
        one.update(np.array(row), known, rule)
        other.update(-np.array(row), known, rule)
    a, b = evidence(one.sums(), known, 0.0), evidence(other.sums(), known, 0.0)
    np.testing.assert_allclose(a.log_e_better, b.log_e_worse, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(a.p_better, b.p_worse, rtol=1e-9, atol=1e-12)


@given(rows=rows_of_differences, rule=rules, known=priors, split=st.integers(0, 9))
@EXAMPLES
def test_state_that_was_written_and_read_goes_on_alike(
    rows: list[list[float]], rule: Rules, known: Prior, split: int
) -> None:
    one, other = Comparisons.fresh(3), Comparisons.fresh(3)
    for batch, row in enumerate(rows):
        if batch == split:
            other = Comparisons.from_arrays(other.arrays())
            other.grow(2)
        more = np.append(row, [np.nan, np.nan]) if len(other.age) > 3 else np.array(row)
        first, second = one.update(np.array(row), known, rule), other.update(more, known, rule)
        assert first.cause.tolist() == second.cause[:3].tolist()


def test_a_reset_begins_anew() -> None:
    state = Comparisons.fresh(2)
    state.update(np.array([-0.1, -0.1]), prior(0.5), Rules())
    state.reset(np.array([True, False]))
    fresh = Comparisons.fresh(1).arrays()
    for name, value in state.arrays().items():
        np.testing.assert_array_equal(value[:1], fresh[name])
    assert state.age[1] == 1


@pytest.mark.parametrize(("alpha", "looks", "rho"), [(0.05, 8, 0.0), (0.05, 8, 0.5), (0.2, 4, 0.5)])
def test_the_level_of_a_look_keeps_the_promise_of_all_looks(alpha: float, looks: int, rho: float) -> None:
    rng = np.random.default_rng(8)
    steps = np.append(1.0 - rho**2, np.full(looks - 1, (1.0 - rho) ** 2))
    score = np.cumsum(rng.normal(size=(60_000, looks)) * np.sqrt(steps), axis=1) / np.sqrt(np.cumsum(steps))
    z = np.quantile(score.max(axis=1), 1.0 - alpha)
    level = look_level(alpha, looks, rho)
    assert alpha / looks < level < alpha
    assert level == pytest.approx(np.mean(rng.normal(size=400_000) > z), rel=0.06)

"""What is LightGBM's own: its parameters, and outcomes that float32 cannot hold."""

import numpy as np
import pytest

from mlma.core.errors import ModelError
from mlma.models.lightgbm_model import LightGBMForecaster, canonical_params


def rows():
    X = np.random.default_rng(1).normal(size=(400, 3))
    return X, np.sin(X[:, 0]) + X[:, 1]


def fitted(y=None, **params):
    X, plain = rows()
    model = LightGBMForecaster(params)
    model.fit(X, plain if y is None else y)
    return model


@pytest.mark.parametrize("objective", ["regression", "l1", "quantile"])
@pytest.mark.parametrize(("level", "spread"), [(1e9, 1.0), (0.0, 1e-12), (-1e6, 1e-3), (0.0, 1e30)])
def test_level_and_spread_of_the_outcomes_do_not_matter(objective, level, spread):
    X, y = rows()
    plain = fitted(objective=objective).predict(X)
    moved = fitted(level + spread * y, objective=objective).predict(X)
    digits_kept = max(1e-6, abs(level) / spread * 1e-12)
    np.testing.assert_allclose((moved - level) / spread, plain, atol=digits_kept)


def test_an_alias_overrides_the_default_of_its_main_name():
    few, many = fitted(n_estimators=1), fitted(num_trees=100)
    assert few.to_bytes().count(b"\nTree=") == 1
    assert many.to_bytes().count(b"\nTree=") == 100


def test_trees_and_leaves_have_the_documented_defaults():
    content = fitted().to_bytes()
    assert content.count(b"\nTree=") == 60
    for line in (b"[num_leaves: 15]", b"[learning_rate: 0.1]", b"[max_bin: 63]", b"[num_threads: 1]"):
        assert line in content


def test_another_seed_gives_another_model_only_where_chance_is_used():
    X, y = rows()
    sampled = {"bagging_fraction": 0.5, "bagging_freq": 1}
    made = {}
    for params in ({}, sampled):
        for seed in (0, 1):
            model = LightGBMForecaster(params, seed=seed)
            model.fit(X, y)
            made[len(params), seed] = model.predict(X)
    np.testing.assert_array_equal(made[0, 0], made[0, 1])
    assert (made[2, 0] != made[2, 1]).any()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"num_leafs": 31}, "unknown parameter 'num_leafs'"),
        ({"num_trees": 5, "n_estimators": 6}, "given twice"),
    ],
)
def test_parameters_that_lightgbm_would_ignore_are_refused(params, said):
    with pytest.raises(ModelError, match=said):
        LightGBMForecaster(params)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"num_trees": 0}, "whole number of at least 1"),
        ({"num_trees": "many"}, "whole number of at least 1"),
        ({"learning_rate": "fast"}, "cannot learn"),
        ({"objective": "binary_for_sure"}, "cannot learn"),
    ],
)
def test_values_out_of_range_are_refused_when_fitted(params, said):
    with pytest.raises(ModelError, match=said):
        fitted(**params)


def test_no_parameters_need_no_lightgbm():
    assert canonical_params({}) == {}


def test_lightgbm_prints_nothing(capfd):
    X, y = rows()
    model = fitted(np.zeros(len(X)))
    model.fit(X[:2], y[:2])
    LightGBMForecaster.from_bytes(model.to_bytes()).predict(X)
    assert capfd.readouterr() == ("", "")


def test_the_text_behind_the_first_line_is_lightgbms_own():
    from lightgbm import Booster

    X, _ = rows()
    model = fitted(objective="huber")  # not standardised, so LightGBM's forecast is ours
    text = model.to_bytes().decode().split("\n", 1)[1]
    np.testing.assert_array_equal(Booster(model_str=text).predict(X), model.predict(X))

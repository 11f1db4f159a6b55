"""One suite of checks that every model family passes."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mlma
from mlma.core.errors import ModelError
from mlma.core.settings import ModelSettings
from mlma.models import registry

FAMILIES = {
    "lightgbm": ModelSettings(name="lightgbm", seed=3),
    "lightgbm-bagged-l1": ModelSettings(
        name="lightgbm",
        params={"objective": "l1", "bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.5},
    ),
    "lightgbm-poisson": ModelSettings(name="lightgbm", params={"objective": "poisson", "num_trees": 200}),
    "ridge": ModelSettings(name="ridge"),
    # its trees count the questions they are asked, so only brute force has the same content after a forecast
    "neighbours": ModelSettings(
        name="sklearn.neighbors:KNeighborsRegressor", params={"n_neighbors": 1, "algorithm": "brute"}
    ),
    "forest": ModelSettings(
        name="sklearn.ensemble:RandomForestRegressor", params={"n_estimators": 3, "max_depth": 4}, seed=5
    ),
    "histogram": ModelSettings(
        name="sklearn.ensemble:HistGradientBoostingRegressor", params={"max_iter": 4, "max_leaf_nodes": 7}
    ),
}

every_family = pytest.mark.parametrize("settings", FAMILIES.values(), ids=FAMILIES)


def rows(n=300, seed=0):
    """Features with holes, one of them always missing and one constant, and outcomes >= 0 that depend on them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    y = np.abs(10 + 2 * X[:, 0] + (X[:, 1] > 0))
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 3] = np.nan
    X[:, 4] = 1.0
    return X, y


def fitted(settings, X, y):
    model = registry.make(settings)
    model.fit(X, y)
    return model


@every_family
def test_fit_and_predict_change_no_input(settings):
    X, y = rows()
    X_kept, y_kept = X.copy(), y.copy()
    X.flags.writeable = y.flags.writeable = False
    fitted(settings, X, y).predict(X)
    np.testing.assert_array_equal(X, X_kept)
    np.testing.assert_array_equal(y, y_kept)


@every_family
def test_the_model_learns_something(settings):
    X, y = rows()
    made = fitted(settings, X, y).predict(X)
    assert made.shape == y.shape
    assert made.dtype == np.float64
    assert np.abs(made - y).mean() < 0.8 * np.abs(y.mean() - y).mean()


@every_family
def test_equal_input_gives_equal_forecasts_and_equal_content(settings):
    X, y = rows()
    one, two = fitted(settings, X, y), fitted(settings, np.asfortranarray(X), y.copy())
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    assert one.to_bytes() == two.to_bytes()


@every_family
def test_a_round_trip_through_bytes_gives_identical_forecasts(settings):
    X, y = rows()
    model = fitted(settings, X, y)
    loaded = registry.load(model.family, model.to_bytes(), settings)
    assert loaded.family == model.family
    fresh, _ = rows(50, seed=9)
    np.testing.assert_array_equal(loaded.predict(fresh), model.predict(fresh))


@every_family
def test_asking_changes_nothing(settings):
    X, y = rows()
    model = fitted(settings, X, y)
    before = model.to_bytes()
    first = model.predict(X)
    np.testing.assert_array_equal(model.predict(X), first)
    assert model.to_bytes() == before


@every_family
def test_one_row_is_forecast_as_among_others(settings):
    X, y = rows()
    model = fitted(settings, X, y)
    one_by_one = np.concatenate([model.predict(X[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, model.predict(X)[:5], rtol=1e-12)
    assert model.predict(X[:0]).shape == (0,)


@every_family
@pytest.mark.parametrize("level", [0.0, 0.1, 7.0, 123456789.1])
def test_constant_outcomes_give_that_constant(settings, level):
    X, _ = rows()
    is_poisson = settings.params.get("objective") == "poisson"  # zeros have no logarithm: see the next test
    made = fitted(settings, X, np.full(len(X), level or float(is_poisson))).predict(X)
    level, relative = (level or 1.0, 1e-6) if is_poisson else (level, 1e-12)
    np.testing.assert_allclose(made, level, rtol=relative, atol=1e-12)


def test_poisson_names_the_stream_of_zeros_that_it_cannot_learn_from():
    X, _ = rows()
    with pytest.raises(ModelError, match="cannot learn"):
        fitted(FAMILIES["lightgbm-poisson"], X, np.zeros(len(X)))


@every_family
def test_two_training_rows_are_enough_for_a_finite_forecast(settings):
    X, _ = rows(2)
    y = np.array([1.0, 2.0])
    made = fitted(settings, X, y).predict(X)
    assert ((made >= 0.5) & (made <= 2.5)).all()


@every_family
def test_rows_without_any_feature_are_forecast_and_learnt_from(settings):
    X, y = rows()
    blank = np.full((4, X.shape[1]), np.nan)
    assert np.isfinite(fitted(settings, X, y).predict(blank)).all()
    nothing = np.full(X.shape, np.nan)
    assert np.isfinite(fitted(settings, nothing, y).predict(X)).all()


@every_family
def test_rows_that_do_not_fit_are_refused_with_a_sentence(settings):
    X, y = rows()
    gap = np.where(np.arange(len(y)) < 3, np.nan, y)
    for bad_X, bad_y, said in [
        (X[:10], y, r"expected \(n, p\) and \(n,\)"),
        (X[:0], y[:0], "no training rows"),
        (X, gap, "3 of 300 training outcomes are not finite"),
    ]:
        with pytest.raises(ModelError, match=said):
            registry.make(settings).fit(bad_X, bad_y)


@every_family
def test_forecasts_from_other_features_than_learnt_are_refused(settings):
    X, y = rows()
    with pytest.raises(ModelError, match="cannot forecast"):
        fitted(settings, X, y).predict(X[:, :3])


@every_family
def test_a_model_that_was_not_fitted_says_so(settings):
    X, _ = rows()
    with pytest.raises(ModelError, match="was not fitted"):
        registry.make(settings).predict(X)
    with pytest.raises(ModelError, match="was not fitted"):
        registry.make(settings).to_bytes()


@every_family
@pytest.mark.parametrize("blob", [b"", b"{}", b"\xff\xfe", b'{"offset": 0, "scale": 1}\nnot a tree', b"PK\x03\x04"])
def test_content_that_is_no_model_is_refused(settings, blob):
    with pytest.raises(ModelError, match="content is not a stored"):
        registry.load(registry.make(settings).family, blob, settings)


def digests():
    """SHA-256 of content and forecasts, by family."""
    X, y = rows()
    found = {}
    for name, settings in FAMILIES.items():
        model = fitted(settings, X, y)
        content = model.to_bytes() + model.predict(X).tobytes()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def test_another_process_trains_the_same_models_byte_for_byte():
    script = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('suite', sys.argv[1])\n"
        "suite = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(suite)\n"
        "print(suite.digests())\n"
    )
    package = str(Path(mlma.__file__).parents[1])
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2", "PYTHONPATH": package}
    done = subprocess.run(
        [sys.executable, "-c", script, __file__],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == str(digests())
    assert done.stderr == ""

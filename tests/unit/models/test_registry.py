"""From names to models and back, with models of the user's own."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import mlma
from mlma.core.errors import ModelError
from mlma.core.settings import ModelSettings
from mlma.models import registry

OWN = '''
import json
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

class Level:
    """Follows the Forecaster protocol by itself."""
    family = "own_models:Level"

    def __init__(self, shift=0.0, seed=None):
        self.shift, self.seed, self.level = shift, seed, None

    def fit(self, X, y):
        self.level = float(np.mean(y)) + self.shift

    def predict(self, X):
        return np.full(len(X), self.level)

    def to_bytes(self):
        return json.dumps(self.level).encode()

    @classmethod
    def from_bytes(cls, blob):
        made = cls()
        made.level = json.loads(blob)
        return made

class Nameless(Level):
    family = None

class Median:
    """A bare regressor, not even derived from scikit-learn."""
    def fit(self, X, y):
        assert np.isfinite(X).all()
        self.median_ = float(np.median(y))
        return self

    def predict(self, X):
        return np.full((len(X), 1), self.median_)

class Estimator(RegressorMixin, BaseEstimator):
    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        self.part_ = Part()
        return self

    def predict(self, X):
        return np.zeros(len(X))

class Part:
    pass

class Lazy:
    pass

number = 5
'''

X = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 6.0]])
Y = np.array([1.0, 2.0, 6.0])


@pytest.fixture
def own_models(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_models", None)


def named(name, **params):
    return ModelSettings(name=name, params=params)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prophet", "model 'prophet' is unknown; allowed are lightgbm, ridge, external, or MODULE:CLASS"),
        ("sklearn.linear_model:", "is unknown"),
        (":Ridge", "is unknown"),
        ("no_such_module:Model", "module 'no_such_module' cannot be imported .* PYTHONPATH set to its folder"),
        (".relative:Model", "cannot be imported"),
        ("sklearn.linear_model:Rigde", "module 'sklearn.linear_model' has no class 'Rigde'"),
        ("own_models:number", "has no class 'number'"),
        ("own_models:Lazy", "has no methods fit and predict"),
        ("own_models:Nameless", "has no attribute family"),
    ],
)
@pytest.mark.usefixtures("own_models")
def test_a_name_that_stands_for_no_model_is_refused(name, said):
    with pytest.raises(ModelError, match=said):
        registry.check(named(name))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (named("ridge", alhpa=2.0), "does not accept the parameters.*alhpa.*allowed are alpha"),
        (named("lightgbm", num_leafs=2), "unknown parameter 'num_leafs'"),
        (named("ridge", alpha=object()), "cannot be written down"),
    ],
)
def test_parameters_that_the_model_does_not_have_are_refused(settings, said):
    with pytest.raises(ModelError, match=said):
        registry.check(settings)


@pytest.mark.usefixtures("own_models")
def test_an_own_forecaster_is_used_as_it_is_and_gets_the_seed():
    settings = ModelSettings(name="own_models:Level", params={"shift": 1.0}, seed=11)
    model = registry.make(settings)
    model.fit(X, Y)
    assert type(model).__name__ == "Level"
    assert model.seed == 11
    loaded = registry.load(model.family, model.to_bytes(), settings)
    assert loaded.predict(X).tolist() == [4.0, 4.0, 4.0]


@pytest.mark.usefixtures("own_models")
def test_an_own_regressor_gets_imputed_features_and_comes_back_through_skops():
    settings = named("own_models:Median")
    model = registry.make(settings)
    model.fit(X, Y)
    assert model.family == "own_models:Median"
    loaded = registry.load(model.family, model.to_bytes(), settings)
    assert loaded.predict(X).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.usefixtures("own_models")
@pytest.mark.parametrize("name", ["own_models:Median", "own_models:Level"])
def test_an_own_model_is_not_loaded_once_the_settings_no_longer_name_it(name):
    model = registry.make(named(name))
    model.fit(X, Y)
    for present in (named("lightgbm"), named("ridge"), named("own_models:Estimator")):
        with pytest.raises(ModelError, match=f"family '{name}', but the settings name '{present.name}'"):
            registry.load(model.family, model.to_bytes(), present)


@pytest.mark.usefixtures("own_models")
def test_a_type_that_nobody_named_is_not_built():
    settings = named("own_models:Estimator")
    model = registry.make(settings)
    model.fit(X, Y)
    with pytest.raises(ModelError, match=r"not trusted: own_models\.Part; .*own_models\.Estimator"):
        registry.load(model.family, model.to_bytes(), settings)


@pytest.mark.usefixtures("own_models")
def test_a_forged_version_of_a_builtin_family_runs_no_foreign_code():
    model = registry.make(named("own_models:Median"))
    model.fit(X, Y)
    with pytest.raises(ModelError, match=r"not trusted: own_models\.Median"):
        registry.load("ridge", model.to_bytes(), named("own_models:Median"))


def test_versions_of_builtin_families_load_whatever_the_settings_say_now():
    for name in ("lightgbm", "ridge", "sklearn.linear_model:LinearRegression"):
        model = registry.make(named(name))
        model.fit(X, Y)
        loaded = registry.load(model.family, model.to_bytes(), named("elsewhere:Model"))
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_the_seed_reaches_scikit_learn_unless_the_parameters_name_one():
    name = "sklearn.ensemble:RandomForestRegressor"
    blobs = []
    for seed, params in [(1, {}), (2, {}), (2, {"random_state": 1})]:
        model = registry.make(ModelSettings(name=name, params={"n_estimators": 2, **params}, seed=seed))
        model.fit(np.arange(40.0).reshape(20, 2), np.arange(20.0) % 7)
        blobs.append(model.predict(np.arange(40.0).reshape(20, 2)).tobytes())
    assert blobs[0] == blobs[2] != blobs[1]


def test_stored_scikit_learn_models_hold_neither_time_nor_address():
    model = registry.make(named("ridge"))
    model.fit(X, Y)
    with zipfile.ZipFile(io.BytesIO(model.to_bytes())) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"__id__" not in archive.read("schema.json")


def test_the_fingerprint_tells_settings_apart_and_ignores_order():
    base = ModelSettings(name="ridge", params={"alpha": 1.0, "fit_intercept": True}, seed=0)
    same = ModelSettings(name="ridge", params={"fit_intercept": True, "alpha": 1.0}, seed=0)
    others = [
        ModelSettings(name="lightgbm", params=base.params),
        ModelSettings(name="ridge", params={"alpha": 2.0, "fit_intercept": True}),
        ModelSettings(name="ridge", params=base.params, seed=1),
    ]
    assert registry.fingerprint(base) == registry.fingerprint(same)
    assert len({registry.fingerprint(s) for s in [base, *others]}) == 4


def test_importing_the_registry_imports_no_model_library():
    script = (
        "import sys, mlma.models.registry as r\n"
        "from mlma.core.settings import ModelSettings\n"
        "r.make(ModelSettings())\n"
        "print([m for m in ('lightgbm', 'sklearn', 'skops', 'scipy', 'pandas') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(Path(mlma.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"

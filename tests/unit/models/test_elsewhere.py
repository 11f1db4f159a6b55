"""What comes back from a training elsewhere is checked before it may forecast, and stored like what is made here."""

import numpy as np
import pytest

from mlma.core.errors import HookError, ModelError
from mlma.core.settings import EXTERNAL, ModelSettings
from mlma.models import registry
from mlma.models.elsewhere import received
from mlma.models.external import ExternalForecaster, version_name
from tests.integration.tiny_model import TinyLeastSquares

RNG = np.random.default_rng(3)
X = RNG.normal(size=(200, 4))
X[::7, 1] = np.nan
Y = np.nan_to_num(X) @ [1.0, 2.0, 3.0, 4.0] + 50
TINY = "tests.integration.tiny_model:TinyLeastSquares"


def tiny() -> bytes:
    model = TinyLeastSquares()
    model.fit(X, Y)
    return model.to_bytes()


def test_lightgbms_own_text_forecasts_as_lightgbm_does() -> None:
    import lightgbm

    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, lightgbm.Dataset(X, label=Y), num_boost_round=5)
    model, blob = received("", booster.model_to_string().encode(), ModelSettings(name="lightgbm"))
    np.testing.assert_array_equal(model.predict(X), booster.predict(X, num_threads=1))
    np.testing.assert_array_equal(registry.load("lightgbm", blob, ModelSettings()).predict(X), model.predict(X))


def test_a_fitted_regressor_that_stands_alone_forecasts_as_scikit_learn_does() -> None:
    import skops.io
    from sklearn.ensemble import HistGradientBoostingRegressor

    name = "sklearn.ensemble:HistGradientBoostingRegressor"
    fitted = HistGradientBoostingRegressor(max_iter=5).fit(X, Y)
    model, blob = received(name, skops.io.dumps(fitted), ModelSettings(name="lightgbm"))
    assert model.family == name
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(registry.load(name, blob, ModelSettings()).predict(X), fitted.predict(X))


def test_a_class_of_the_engineer_reads_what_it_has_written() -> None:
    model, blob = received("", tiny(), ModelSettings(name=TINY))
    assert model.family == "tiny"
    assert blob == tiny()


@pytest.mark.parametrize(
    ("family", "artifact", "named", "wrong"),
    [
        ("prophet", b"x", "lightgbm", "a stored version is of family 'prophet', but the settings name 'lightgbm'"),
        ("tiny", b"x", "lightgbm", "a stored version is of family 'tiny', but the settings name 'lightgbm'"),
        (
            "lightgbm",
            b"tree\nnonsense",
            "lightgbm",
            "the content is not a stored LightGBM model",
        ),
        ("ridge", b"PK nonsense", "ridge", "the content is not a stored scikit-learn model"),
        ("external:prod-1", b'{"version": "prod-1"}', "lightgbm", "allowed are those that forecast here"),
    ],
)
def test_an_artifact_of_another_family_or_with_other_content_is_refused(
    family: str, artifact: bytes, named: str, wrong: str
) -> None:
    with pytest.raises(HookError, match=wrong):
        received(family, artifact, ModelSettings(name=named))


def test_a_version_elsewhere_is_its_name_and_is_never_asked() -> None:
    model = registry.load("external:prod-8", ExternalForecaster("prod-8").to_bytes(), ModelSettings())
    assert version_name(model.family) == "prod-8"
    with pytest.raises(ModelError, match="arrive in files"):
        model.predict(X)
    with pytest.raises(ModelError, match="not trained here"):
        registry.make(ModelSettings(name=EXTERNAL)).fit(X, Y)
    with pytest.raises(ModelError, match="not the name of a version"):
        ExternalForecaster.from_bytes(b"[]")

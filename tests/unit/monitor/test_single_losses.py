"""The losses that two-sample tests look at: how long they are kept, and for whom."""

import numpy as np

from mlma.core.batch_summary import summarise_batch
from mlma.core.settings import LossTestName
from mlma.monitor.single_losses import KEPT_BATCHES, SingleLosses


def kept(name: LossTestName, *shapes: tuple[int, int]) -> SingleLosses:
    rng = np.random.default_rng(2)
    made = SingleLosses(name)
    for batch, shape in enumerate(shapes):
        made.add(summarise_batch(rng.exponential(size=shape), keep_single=True), batch)
    return made


def test_single_losses_are_forgotten_after_a_while_and_the_test_is_then_not_ready() -> None:
    last = KEPT_BATCHES + 9
    losses = kept(LossTestName.WELCH, *[(2, 24)] * (last + 1))
    newest = np.repeat(np.arange(1, 5)[:, None], 2, axis=1)
    assert np.isfinite(losses.p_value(last, newest, least=2)).all()
    assert np.isnan(losses.p_value(last, newest + last - 4, least=2)).all()


def test_streams_born_after_a_batch_have_no_single_losses_in_it() -> None:
    losses = kept(LossTestName.MANN_WHITNEY, *[(2, 24)] * 4, (3, 24))
    lags = np.repeat(np.arange(1, 5)[:, None], 3, axis=1)
    lags[:, 2] = 0
    p_value = losses.p_value(4, lags, least=2)
    assert np.isfinite(p_value[:2]).all()
    assert np.isnan(p_value[2])

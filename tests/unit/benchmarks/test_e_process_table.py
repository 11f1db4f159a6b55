"""The e-process table of the manual in small: what it compares with is what it says."""

import json
from functools import cache

import numpy as np
import pytest
from scipy.special import ndtr

from benchmarks import e_process
from benchmarks.e_process import WAYS, bets_at_once, restarted_bets, spread_bets
from mlma.core.e_process import RISES

Z = np.random.default_rng(1).standard_normal((30, 5))
LOG_RATIO = RISES[:, None, None] * Z - np.square(RISES)[:, None, None] / 2.0


def test_bets_at_once_are_products_since_the_start():
    expected = np.exp(np.cumsum(LOG_RATIO, axis=1)).mean(axis=0)
    np.testing.assert_allclose(np.exp(bets_at_once(Z)), expected, rtol=1e-10)


def test_restarted_bets_are_sums_over_all_starts():
    t = 9
    starts = [np.exp(LOG_RATIO[:, k : t + 1].sum(axis=1)).mean(axis=0) for k in range(t + 1)]
    np.testing.assert_allclose(np.exp(restarted_bets(Z)[t]), np.sum(starts, axis=0), rtol=1e-10)


def test_spread_bets_are_those_of_the_product():
    process = e_process.EProcess.fresh(5)
    np.testing.assert_array_equal(spread_bets(Z), [process.update(ndtr(-row)) for row in Z])


def test_values_depend_on_each_other_as_they_say():
    made = e_process.values(0.5, streams=500, seed=2)
    assert np.corrcoef(made[:-1].ravel(), made[1:].ravel())[0, 1] == pytest.approx(0.5, abs=0.02)
    assert made.std() == pytest.approx(1.0, abs=0.02)


def test_the_product_keeps_its_promise_and_a_frozen_reference_does_not(monkeypatch):
    monkeypatch.setattr(e_process, "STEPS", (3.0,))
    monkeypatch.setattr(e_process, "ONSETS", (100,))
    product, frozen = (e_process.measure(WAYS[i], streams=150) for i in (0, 2))
    assert product.ever <= 0.06
    assert frozen.ever >= 0.1
    assert product.delay[100][3.0] <= 4.0
    assert len(e_process.render([product, frozen]).splitlines()) == 4


def test_command_prints_a_table_and_json(monkeypatch, capsys):
    monkeypatch.setattr(e_process, "WAYS", WAYS[1:2])
    monkeypatch.setattr(e_process, "measure", cache(e_process.measure))  # both formats show the same figures
    assert e_process.main(["--streams", "10"]) == 0
    assert "| iid | newest 8 |" in capsys.readouterr().out
    assert e_process.main(["--streams", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["reference"] == "newest 8"

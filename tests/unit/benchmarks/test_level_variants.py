"""The table of variants in small: the product is the monitor's own test, and variants differ where they say."""

import json

import numpy as np
import pytest

from benchmarks import level_priors, level_slides, level_tail, level_variants
from benchmarks.level_processes import PROCESSES, simulate
from benchmarks.level_variants import PRODUCT, VARIANTS, Variant, p_values
from mlma import LossMonitor
from mlma.core.loss_tests import fit_prior

IID = PROCESSES[0]
BETWEEN = next(process for process in PROCESSES if process.name == level_variants.DEPENDENT[0])


@pytest.fixture(scope="module")
def batches():
    return simulate(BETWEEN, batches=6, streams=300, seed=1)[0]


@pytest.mark.parametrize("references", ["adaptive", "product"])
def test_the_product_is_what_the_monitor_does(references, batches):
    monitor = LossMonitor(300, fleet="none", common=False, anchored=references == "product")
    for batch in batches[:5]:
        monitor.update(batch)
    ours = p_values(Variant(topic="", name="", references=references), batches[:5], batches[5], 1)
    theirs = monitor.update(batches[5]).p_value
    # the floor of a thousandth is the monitor's alone, and it remembers dependence a little differently
    np.testing.assert_allclose(ours, theirs, atol=0.05)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: f"{variant.topic}: {variant.name}")
def test_every_variant_gives_p_values_and_all_but_the_product_differ(variant, batches):
    ours, product = (p_values(one, batches[:5], batches[5], 1) for one in (variant, PRODUCT))
    assert ((ours >= 0.0) & (ours <= 1.0)).all()
    # dense losses have no zeros to count
    same = variant is PRODUCT or (variant.topic == "floor" and variant.by_zeros)
    assert np.array_equal(ours, product) == same


def test_moments_and_likelihood_agree_in_a_large_fleet():
    rng = np.random.default_rng(2)
    s2 = 4.0 / rng.chisquare(4.0, 40_000) * rng.chisquare(3.0, 40_000) / 3.0
    here, there = fit_prior(s2, np.full(40_000, 3.0)), level_priors.by_moments(s2, np.full(40_000, 3.0))
    assert there.df == pytest.approx(here.df, rel=0.2)
    assert there.variance == pytest.approx(here.variance, rel=0.05)


def test_a_cap_lowers_what_the_fleet_is_worth():
    df = np.full(2000, 2.0)
    prior = level_priors.capped(25.0)(np.random.default_rng(3).chisquare(2.0, 2000) / 2.0, df)
    assert prior.df == 25.0
    assert max(guess.df for guess in prior.guesses) <= 25.0


def test_a_trend_finds_the_wild_streams():
    rng = np.random.default_rng(4)
    calm, wild = (np.abs(rng.standard_t(df, (5, 300, 96))) for df in (50.0, 2.1))
    both = np.concatenate([calm, wild], axis=1)
    variance = np.log(both.mean(axis=2)).var(axis=0, ddof=1)
    share = level_priors.trend(both, variance, 4.0)
    assert np.median(share[300:]) > 1.5 * np.median(share[:300])


def test_command_prints_tables_and_json(monkeypatch, capsys):
    monkeypatch.setattr(level_variants, "PROCESSES", (IID, BETWEEN))
    monkeypatch.setattr(level_variants, "SPARSE", ())
    monkeypatch.setattr(level_variants, "VARIANTS", VARIANTS[::6])
    monkeypatch.setattr(level_tail, "FLEETS", (200,))
    size = ["--streams", "80", "--seeds", "1", "--fleets", "1"]
    assert level_variants.main(size) == 0
    printed = capsys.readouterr().out
    assert all(variant.name in printed for variant in VARIANTS[::6])
    assert all(name in printed for name in level_tail.FITS)
    assert level_variants.main([*size, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["variants"]) == len(VARIANTS[::6])


@pytest.mark.slow
def test_slides_are_told_by_rate_and_reference(monkeypatch, capsys):
    monkeypatch.setattr(level_slides, "WEEKS", 1)
    assert level_slides.main(["--streams", "40"]) == 0
    assert capsys.readouterr().out.count("\n") == 2 + len(level_slides.RATES)
    assert level_slides.main(["--streams", "40", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2 * len(level_slides.RATES)

"""Sham streams: a right test is certified, a wrong one is found out and disarmed, whatever the fleet does."""

import numpy as np
import pytest

from mlma import LossMonitor
from mlma.core.decisions import CertificateStatus, Reason
from mlma.monitor import sham
from mlma.monitor.sham import FEWEST, FOLLOWED, SURE, Segments, Sham, interval

HORIZON = 24


def overlap(seed, *, streams, batches, n=96):
    """Absolute errors of overlapping horizons: moving sums of 24, shape (batches, streams, n)."""
    noise = np.random.default_rng(seed).standard_normal((streams, batches * n + HORIZON))
    total = np.cumsum(noise, axis=1)
    return np.abs(total[:, HORIZON:] - total[:, :-HORIZON]).reshape(streams, batches, n).transpose(1, 0, 2)


def healthy(seed, *, streams, batches, n=24):
    return np.abs(np.random.default_rng(seed).standard_normal((batches, streams, n)))


def feed(monitor, batches):
    return [monitor.update(batch) for batch in batches]


@pytest.fixture(scope="module")
def losses():
    return overlap(1, streams=120, batches=16)


def test_a_sabotaged_test_fails_its_certificate_and_is_disarmed(losses):
    broken = losses.copy()
    broken[12:, :6] *= 6.0
    verdicts = feed(LossMonitor(120, test="welch", fleet="none"), broken)
    last = verdicts[-1]
    assert last.certificate.status is CertificateStatus.FAILED
    assert last.certificate.level > 0.15
    assert last.certificate.test == "welch"
    assert not last.alarm.any()
    assert (last.reason[:6] == Reason.UNCERTIFIED).sum() >= 5
    assert not set(last.reason) & {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH}


def test_the_moderated_test_stays_certified_and_armed_on_the_same_losses(losses):
    broken = losses.copy()
    broken[12:, :6] *= 6.0
    verdicts = feed(LossMonitor(120, fleet="none"), broken)
    assert {verdict.certificate.status for verdict in verdicts} == {
        CertificateStatus.PENDING, CertificateStatus.CERTIFIED,
    }  # fmt: skip
    assert verdicts[-1].certificate.status is CertificateStatus.CERTIFIED
    assert verdicts[12].alarm[:6].sum() >= 5


def test_welch_is_certified_where_losses_are_independent():
    verdict = feed(LossMonitor(150, test="welch"), healthy(2, streams=150, batches=14, n=48))[-1]
    assert verdict.certificate.status is CertificateStatus.CERTIFIED
    assert verdict.certificate.level == pytest.approx(0.045, abs=0.02)


def test_a_certificate_says_level_power_and_delay():
    certificate = feed(LossMonitor(300), healthy(3, streams=300, batches=20, n=96))[-1].certificate
    assert certificate.promised == 0.05
    assert certificate.batch == 19
    assert certificate.level_low < certificate.level < certificate.level_high
    assert certificate.level == pytest.approx(0.045, abs=0.015)
    assert certificate.rise == 0.25
    # log 1.25 is 2.9 standard deviations of the log mean of 96 half-normal losses
    assert 0.6 <= certificate.power <= 1.0
    assert certificate.power <= certificate.caught <= 1.0
    assert 1.0 <= certificate.delay <= 2.0


def test_nothing_is_certified_before_enough_was_seen():
    verdicts = feed(LossMonitor(10), healthy(4, streams=10, batches=6))
    assert all(verdict.certificate.status is CertificateStatus.PENDING for verdict in verdicts)
    assert np.isnan(verdicts[0].certificate.level)


def test_a_pending_test_is_armed():
    losses = healthy(5, streams=20, batches=7)
    losses[6, 3] *= 10.0
    verdict = feed(LossMonitor(20), losses)[-1]
    assert verdict.certificate.status is CertificateStatus.PENDING
    assert verdict.alarm[3]


def test_a_fleet_that_gets_worse_slowly_does_not_lose_its_certificate():
    ramp = healthy(6, streams=150, batches=40, n=48) * 1.01 ** np.arange(40)[:, None, None]
    verdicts = feed(LossMonitor(150, common=False), ramp)
    assert all(verdict.certificate.is_armed for verdict in verdicts)


def test_the_seed_alone_decides_about_sham_streams():
    losses = healthy(7, streams=100, batches=10)
    one, same, other = (feed(LossMonitor(100, seed=seed), losses)[-1].certificate for seed in (1, 1, 2))
    assert repr(one) == repr(same)
    assert one.level != other.level


# the parts


def _sham(shares, *, tests=400, streams=400):
    """Sham of which so many tests alarmed at each batch."""
    made = Sham()
    for share in shares:
        row = np.zeros(len(sham.COUNTS))
        row[0], row[1] = tests, share * tests
        made.counts[made.n % sham.WINDOW], made.streams[made.n % sham.WINDOW] = row, streams
        made.n += 1
    return made


@pytest.mark.parametrize(
    ("share", "streams", "status"),
    [
        (0.05, 400, CertificateStatus.CERTIFIED),
        (0.0, 400, CertificateStatus.CERTIFIED),  # a cautious test breaks no promise
        (0.07, 400, CertificateStatus.CERTIFIED),  # not sure enough of it
        (0.15, 400, CertificateStatus.FAILED),
        (0.15, 10, CertificateStatus.PENDING),  # the same streams again and again
        (1.0, 0, CertificateStatus.PENDING),
    ],
)
def test_a_certificate_fails_only_when_it_is_sure(share, streams, status):
    certificate = _sham([share], streams=streams).certificate(batch=1, test="x", alpha=0.05, rise=0.25)
    assert certificate.status is status
    assert certificate.is_armed is (status is not CertificateStatus.FAILED)


def test_old_batches_are_forgotten():
    made = _sham([1.0] * 3 + [0.05] * sham.WINDOW)
    assert made.certificate(batch=1, test="x", alpha=0.05, rise=0.25).level == pytest.approx(0.05)


def test_healthy_shams_are_drawn_from_unbroken_runs_only():
    seen: list[Segments] = []

    def tester(segments):
        seen.append(segments)
        return np.full(len(segments.stream), 0.5), np.zeros(len(segments.stream))

    run = np.array([0, 2, 3, 9, 9, 30])
    rng = np.random.default_rng(8)
    for _ in range(50):
        Sham().run(tester, run, rng, alpha=0.05, floor=0.05, rise=0.25, least=2)
    for segments in seen:
        assert (segments.length == run[segments.stream]).all()
        assert (segments.length > 2).all()
        assert ((segments.start >= 0) & (segments.at - segments.start >= 2)).all()
        assert (segments.at < segments.length).all()
        assert ((segments.age(segments.at) >= 0) & (segments.age(segments.at) < segments.length)).all()
    degraded = [segments.raised_from < segments.length for segments in seen if segments.rise > 0.0]
    assert any(some.any() for some in degraded)
    assert {bool(b) for segments in seen for b in segments.backwards} == {True, False}


def test_power_and_delay_are_counted_from_the_first_raised_batch():
    def tester(segments):
        since = segments.at - segments.raised_from  # below 0 for healthy ones
        return np.where(since == segments.stream % FOLLOWED, 0.01, 0.5), np.ones(len(since))

    made = Sham()
    made.run(tester, np.full(400, 20), np.random.default_rng(9), alpha=0.05, floor=0.05, rise=0.25, least=2)
    certificate = made.certificate(batch=1, test="x", alpha=0.05, rise=0.25)
    assert certificate.power == pytest.approx(1 / FOLLOWED, abs=0.01)
    assert certificate.caught == 1.0
    assert certificate.delay == pytest.approx(FOLLOWED / 2, abs=0.5)


def test_an_effect_below_the_floor_is_not_caught():
    def tester(segments):
        return np.full(len(segments.stream), 0.001), np.full(len(segments.stream), 0.04)

    made = Sham()
    made.run(tester, np.full(400, 20), np.random.default_rng(10), alpha=0.05, floor=0.05, rise=0.25, least=2)
    certificate = made.certificate(batch=1, test="x", alpha=0.05, rise=0.25)
    assert certificate.level == 1.0  # the promise is about p-values
    assert certificate.caught == certificate.power == 0.0


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_the_interval_holds_the_share_and_shrinks(share):
    low, high = interval(share, 100.0, 0.95)
    closer_low, closer_high = interval(share, 10_000.0, 0.95)
    rounding = 1e-12
    assert 0.0 <= low <= closer_low + rounding <= share + 2.0 * rounding
    assert share - rounding <= closer_high <= high <= 1.0


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(11)
    shares = rng.binomial(FEWEST, 0.05, 4000) / FEWEST
    covered = [low <= 0.05 <= high for low, high in (interval(share, FEWEST, 0.95) for share in shares)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)  # shares are a lattice
    wrong = np.mean([interval(share, FEWEST, 2.0 * SURE - 1.0)[0] > 0.05 for share in shares])
    assert wrong <= 0.02

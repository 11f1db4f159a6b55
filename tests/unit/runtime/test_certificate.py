"""The certificate in the loop: a test that does not keep its promise leads to nothing, and everybody is told."""

import numpy as np
import pytest
from scipy.signal import lfilter

from mlma.core.decisions import Action, CertificateStatus, Phase, Reason
from mlma.core.settings import LossTestName, Yardstick
from mlma.runtime.monitor_words import certificate_lines
from tests.unit.runtime.memory_fleet import HOURS, WARM_DAYS, Life, settings_for

DAYS = 64
STREAMS = 40


def slow_demand() -> np.ndarray:
    """Healthy demand whose deviations last for days, so that losses of neighbouring hours tell the same story."""
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((STREAMS, DAYS * HOURS + 500)) * np.sqrt(1.0 - 0.97**2)
    deviation = lfilter([1.0], [1.0, -0.97], steps, axis=1)[:, 500:]
    return 100.0 * (1.0 + 0.6 * np.sin(2.0 * np.pi * np.arange(DAYS * HOURS) / 24.0)) * np.exp(0.2 * deviation)


@pytest.fixture(scope="module")
def welch() -> Life:
    settings = settings_for(name=LossTestName.WELCH, yardstick=Yardstick.NONE, life={"fallback_every": 5})
    return Life(slow_demand(), settings).until(DAYS)


def test_a_test_that_cannot_keep_its_promise_is_found_out_and_disarmed(welch: Life) -> None:
    certificate = welch.store.certificate()
    assert certificate is not None
    assert certificate.status is CertificateStatus.FAILED
    assert certificate.level_low > 0.06
    alarms = {Reason.ALARM_ADAPTIVE, Reason.ALARM_ANCHORED, Reason.ALARM_BOTH}
    late = [d for d in welch.decisions(phase=Phase.BATCH) if d.batch >= WARM_DAYS + 12]
    assert not [d for d in late if d.reason in alarms]
    assert [d for d in late if d.reason is Reason.UNCERTIFIED and d.p_value <= 0.05]


def test_the_calendar_decides_while_the_test_is_not_armed(welch: Life) -> None:
    trained = [d.batch for d in welch.decisions("s003", phase=Phase.BATCH) if d.action is not Action.KEEP]
    late = [batch for batch in trained if batch >= WARM_DAYS + 12]
    assert len(late) >= 2
    assert set(np.diff(late)) == {5}


def test_status_names_the_failed_test_and_what_decides_instead(welch: Life) -> None:
    lines = "\n".join(certificate_lines(welch.store.certificate(), policy="test", fallback_every=5))
    assert "NOT ARMED" in lines
    assert "welch" in lines
    assert "every 5 batches" in lines


def test_the_moderated_test_keeps_its_certificate_on_the_same_losses() -> None:
    life = Life(slow_demand(), settings_for(yardstick=Yardstick.NONE)).until(DAYS)
    certificate = life.store.certificate()
    assert certificate is not None
    assert certificate.status is CertificateStatus.CERTIFIED
    assert certificate.level_low < 0.05

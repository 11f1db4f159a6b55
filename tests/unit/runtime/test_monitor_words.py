"""The sentences on a certificate, whatever is missing in it, and on what decides instead."""

from dataclasses import replace

import pytest

from mlma.core.decisions import CertificateStatus
from mlma.core.incident_view import IncidentView
from mlma.core.records import Certificate
from mlma.runtime.monitor_words import certificate_lines, fallback_of, incident_words, instead

NAN = float("nan")
CERTIFIED = Certificate(
    batch=41, test="moderated", status=CertificateStatus.CERTIFIED, promised=0.05, level=0.0463, level_low=0.0412,
    level_high=0.0521, n_healthy=8412, rise=0.25, power=0.71, caught=0.97, delay=1.0, n_degraded=901,
)  # fmt: skip
VERDICT = "moderated: certified after batch 41"
LEVEL = "false alarms: promised 5 %, measured 4.63 % (95 % interval 4.12 to 5.21 %) in 8,412 sham tests"
POWER = (
    "power: of losses raised by 25 %, 71 % alarm in the first batch, 97 % within those followed "
    "(median delay 1 batch, 901 sham tests)"
)
NOTHING_CAUGHT = (
    "power: of losses raised by 25 %, 0 % alarm in the first batch, 0 % within those followed (1 sham test)"
)
CALENDAR = "the calendar decides instead: a stream is retrained every 13 batches (life.fallback_every)"
DEBT = "no alarm counts; under the policy mlma the debt decides, so trainings go on as before"
FAILED = "NOT ARMED: the certificate of moderated failed after batch 41, it raises more false alarms than promised"
PENDING = "moderated: certificate pending, 8,412 sham tests do not say enough yet; armed meanwhile"


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        pytest.param({}, [VERDICT, LEVEL, POWER], id="certified"),
        pytest.param({"status": CertificateStatus.FAILED}, [FAILED, DEBT, LEVEL, POWER], id="failed"),
        pytest.param({"status": CertificateStatus.PENDING}, [PENDING, LEVEL, POWER], id="pending"),
        pytest.param({"power": NAN, "caught": NAN, "delay": NAN}, [VERDICT, LEVEL], id="no degraded stream"),
        pytest.param({"level": NAN, "level_low": NAN, "level_high": NAN}, [VERDICT, POWER], id="no healthy stream"),
        pytest.param(
            {"level_low": NAN, "level_high": NAN},
            [VERDICT, "false alarms: promised 5 %, measured 4.63 % in 8,412 sham tests", POWER],
            id="no interval",
        ),
        pytest.param(
            {"power": 0.0, "caught": 0.0, "delay": NAN, "n_degraded": 1},
            [VERDICT, LEVEL, NOTHING_CAUGHT],
            id="nothing caught",
        ),
    ],
)  # fmt: skip
def test_a_certificate_is_told_with_what_it_holds(changes, lines):
    assert certificate_lines(replace(CERTIFIED, **changes), policy="mlma", fallback_every=13) == lines


def test_a_fleet_without_a_certificate_says_so():
    (line,) = certificate_lines(None, policy="", fallback_every=None)
    assert line.startswith("no certificate yet")


@pytest.mark.parametrize(
    ("policy", "every", "words"),
    [
        ("test", 13, CALENDAR),
        ("test+pool", 13, CALENDAR),
        ("test", None, "the calendar decides instead: a stream is retrained every life.fallback_every batches"),
        ("mlma", 13, DEBT),
        ("mlma-champion", 13, DEBT.replace("mlma", "mlma-champion")),
        ("", 13, "no alarm counts"),
        ("never", 13, "no alarm counts; the policy never does not ask the test, so trainings go on as before"),
    ],
)
def test_what_decides_instead_depends_on_the_policy(policy, every, words):
    assert instead(policy, every) == words


@pytest.mark.parametrize(("meta", "every"), [({}, None), ({"fallback_every": "4"}, 4)])
def test_the_calendar_is_read_where_the_daemon_wrote_it(meta, every):
    assert fallback_of(meta) == every


def test_an_incident_without_times_is_told_by_its_batches():
    seen = IncidentView(
        id="41-", label_set="the whole fleet", labels={}, first_batch=41, last_batch=43, starts_at=None, ends_at=None,
        goes_on=False, n_members=1, rise=NAN, p_value=0.001,
    )  # fmt: skip
    assert incident_words(seen) == "the whole fleet: 1 stream together from batch 41 to batch 43"

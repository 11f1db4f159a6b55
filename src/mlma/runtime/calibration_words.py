"""What a calibration advises: at most three sentences, each made from numbers that were measured."""

import math
from datetime import timedelta

from mlma.core.decisions import CertificateStatus
from mlma.core.durations import format_duration
from mlma.core.settings import FleetRule
from mlma.core.shares import percentage, rate
from mlma.monitor.calibration_figures import Calibration, Drift, Measured, Power

BEYOND = 1.2
"""The streams as they are alarm more than promised when their interval begins above this multiple of it; the
multiple that the certificate allows."""


def advice(figures: Calibration) -> tuple[str, ...]:
    """What the numbers say about the settings, in at most three sentences.

    On whether the test keeps its promise, on the length of a batch, and on what the fleet alarms as it is.
    """
    sentences = (_on_level(figures), _on_batches(figures), _on_drift(figures) or _on_rule(figures))
    return tuple(f"{text[0].upper()}{text[1:]}." for text in sentences if text)


def drift_words(drift: Drift) -> str:
    """A drift in words.

    Examples
    --------
    >>> drift_words(Drift(rise=0.25)), drift_words(Drift(per_week=0.01)), drift_words(Drift())
    ('+25 %', '+1 % a week', 'nothing (chance)')
    """
    if drift.per_week:
        return f"{'+' if drift.per_week > 0 else ''}{percentage(drift.per_week)} a week"
    return f"+{percentage(drift.rise)}" if drift.rise else "nothing (chance)"


def setting_words(made: Measured) -> str:
    """Length of a batch, and its season where there is one."""
    season = made.settings.season
    return format_duration(made.batch) + (f", season {season}" if season > 1 else "")


def span(duration: timedelta) -> str:
    """A duration for people, in the largest unit that it fills, three digits.

    Examples
    --------
    >>> span(timedelta(days=8, hours=12)), span(timedelta(days=14)), span(timedelta(minutes=90))
    ('8.5d', '14d', '1.5h')
    """
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if duration >= length:
            return f"{duration / length:.3g}{unit}"
    return f"{duration.total_seconds():.3g}s"


def delay_words(power: Power, made: Measured) -> str:
    """Median delay in batches and in event time: ``3 batches (3d)``, or ``> 13 batches (13d)`` beyond the last."""
    beyond = math.isnan(power.delay)
    delay = power.within[-1] if beyond else power.delay
    words = f"{delay:g} batch{'' if delay == 1 else 'es'}"
    return f"{'> ' if beyond else ''}{words} ({span(delay * made.batch)})"


def _on_level(figures: Calibration) -> str:
    certificate = figures.main.certificate
    if not certificate.n_healthy:
        return ""
    seen = (
        f"{percentage(certificate.level)} of {certificate.n_healthy:,} sham tests (95 % interval "
        f"{rate(certificate.level_low)} to {percentage(certificate.level_high)}) where "
        f"{percentage(certificate.promised)} are promised"
    )
    if certificate.status is CertificateStatus.CERTIFIED:
        return f"the test {certificate.test} keeps its promise on these losses: false alarms in {seen}"
    if certificate.status is CertificateStatus.PENDING:
        return f"the losses are too few to say whether {certificate.test} keeps its promise: false alarms in {seen}"
    better = [(one.headline(), one) for one in figures.tests if one.certificate.status is CertificateStatus.CERTIFIED]
    able = [(power.at_once.share, one) for power, one in better if power is not None]
    words = f"the test {certificate.test} would not be armed: false alarms in {seen}"
    if not able:
        return words
    share, best = max(able, key=lambda pair: pair[0])
    power = best.headline()
    assert power is not None
    return (
        f"{words}; {best.settings.name} keeps it and sees {_rise(power)} at once in {percentage(share)} of the streams"
    )


def _rise(power: Power) -> str:
    return f"a rise of {percentage(power.drift.rise)}"


def _time(power: Power, made: Measured) -> float:
    """Median delay in days, infinite where fewer than half were caught."""
    return math.inf if math.isnan(power.delay) else power.delay * (made.batch.total_seconds() / 86400.0)


def _half(power: Power, made: Measured) -> str:
    if math.isnan(power.delay):
        return f"fewer than half within {span(power.within[-1] * made.batch)}"
    return f"half of them within {span(power.delay * made.batch)}"


def _on_batches(figures: Calibration) -> str:
    main, power = figures.main, figures.main.headline()
    if power is None:
        return "the losses are too few to put a rise into them, so nothing is known about power and delay"
    words = (
        f"batches of {setting_words(main)} see {_rise(power)} at once in {percentage(power.at_once.share)} of the "
        f"streams ({_half(power, main)})"
    )
    others = [
        (found, one)
        for one in figures.batches
        if (found := one.headline()) is not None and one.certificate.status is not CertificateStatus.FAILED
    ]
    if not others:
        return words
    found, best = min(others, key=lambda pair: (_time(*pair), -pair[0].at_once.share))
    more = f"batches of {setting_words(best)} in {percentage(found.at_once.share)} ({_half(found, best)})"
    if _time(found, best) < _time(power, main):
        return f"{words}; {more}, the soonest of those tried"
    found, best = max(others, key=lambda pair: pair[0].at_once.share)
    if found.at_once.share <= power.at_once.high:  # within what chance would do
        return f"{words}, and no other length of a batch that was tried does clearly better"
    more = f"batches of {setting_words(best)} in {percentage(found.at_once.share)} ({_half(found, best)})"
    return f"{words}; {more}, so they see more in a batch and not sooner"


def _on_drift(figures: Calibration) -> str:
    """Where the streams as they are alarm far more than healthy ones would."""
    main = figures.main
    if not main.level.low > BEYOND * main.settings.alpha:
        return ""
    words = (
        f"as they are, the streams are at p <= alpha in {percentage(main.level.share)} of the tests, beyond the "
        f"{percentage(main.settings.alpha)} of healthy ones: their losses drift or follow a season"
    )
    seasonal = [one for one in figures.batches if one.batch == main.batch]
    if seasonal and seasonal[0].level.share < main.level.share:
        words += f" (testing.season={seasonal[0].settings.season}: {percentage(seasonal[0].level.share)})"
    return words


def _on_rule(figures: Calibration) -> str:
    main = figures.main
    wanted = FleetRule.BH if main.settings.fleet is FleetRule.NONE else FleetRule.NONE
    rules = {one.rule: one for one in main.rules}
    mine, other = rules.get(main.settings.fleet), rules.get(wanted)
    if mine is None or other is None or main.n_streams < 2:
        return ""
    words = (
        f"expect {mine.mean:.3g} alarms a batch from {main.n_streams:,} streams as they are, and {other.mean:.3g} "
        f"under the fleet rule {other.rule}"
    )
    if mine.power is None or other.power is None:
        return words
    return (
        f"{words}, which sees {_rise(other.power)} at once in {percentage(other.power.at_once.share)} of the streams "
        f"instead of {percentage(mine.power.at_once.share)}"
    )

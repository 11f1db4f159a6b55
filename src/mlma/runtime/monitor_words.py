"""The sentences of `mlma status`, `mlma explain` and `mlma incidents` on certificates and incidents."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from mlma.core.decisions import Action, CertificateStatus, Reason
from mlma.core.explanation import Fact
from mlma.core.incident_view import IncidentView
from mlma.core.policy import PolicyKind, parse
from mlma.core.records import Certificate, Decision, Version
from mlma.core.shares import percentage, rate
from mlma.runtime.explain_words import minute, number, percent

TOLD = 3
"""Sentences on a certificate in an explanation: verdict, what decides instead, level; the power is left to status."""


def fallback_of(meta: Mapping[str, str]) -> int | None:
    """``life.fallback_every`` as the daemon wrote it down; None in a state that knows none."""
    return int(meta["fallback_every"]) if "fallback_every" in meta else None


def certificate_lines(certificate: Certificate | None, *, policy: str, fallback_every: int | None) -> list[str]:
    """What the sham streams say about the test, and what follows from it.

    Parameters
    ----------
    certificate
        The newest; None before the first.
    policy
        Of the state, such as ``mlma`` or ``calendar:4``.
    fallback_every
        Batches of the calendar that decides under ``test`` while the test is not armed; None when it is not known.
    """
    if certificate is None:
        return ["no certificate yet: no sham stream was tested"]
    verdict = {
        CertificateStatus.CERTIFIED: f"{certificate.test}: certified after batch {certificate.batch}",
        CertificateStatus.PENDING: f"{certificate.test}: certificate pending, {certificate.n_healthy:,} sham tests "
        "do not say enough yet; armed meanwhile",
        CertificateStatus.FAILED: f"NOT ARMED: the certificate of {certificate.test} failed after batch "
        f"{certificate.batch}, it raises more false alarms than promised",
    }[certificate.status]
    otherwise = "" if certificate.is_armed else instead(policy, fallback_every)
    return list(filter(None, [verdict, otherwise, level_words(certificate), power_words(certificate)]))


def instead(policy: str, fallback_every: int | None) -> str:
    """What decides while the test is not armed.

    Examples
    --------
    >>> instead("test", 13)
    'the calendar decides instead: a stream is retrained every 13 batches (life.fallback_every)'
    >>> instead("mlma", 13)
    'no alarm counts; under the policy mlma the debt decides, so trainings go on as before'
    >>> instead("calendar:4", 13)
    'no alarm counts; the policy calendar:4 does not ask the test, so trainings go on as before'
    """
    if not policy:
        return "no alarm counts"
    kind = parse(policy).kind
    if kind is PolicyKind.MLMA:
        return f"no alarm counts; under the policy {policy} the debt decides, so trainings go on as before"
    if kind is not PolicyKind.TEST:
        return f"no alarm counts; the policy {policy} does not ask the test, so trainings go on as before"
    every = "every life.fallback_every" if fallback_every is None else f"every {fallback_every}"
    source = "" if fallback_every is None else " (life.fallback_every)"
    return f"the calendar decides instead: a stream is retrained {every} batches{source}"


def _sham(n: int) -> str:
    return f"{n:,} sham test{'' if n == 1 else 's'}"


def level_words(certificate: Certificate) -> str:
    """False alarms promised beside those measured; empty before the first sham test."""
    if math.isnan(certificate.level):
        return ""
    bounds = ""
    if not math.isnan(certificate.level_low) and not math.isnan(certificate.level_high):
        bounds = f" (95 % interval {rate(certificate.level_low)} to {percentage(certificate.level_high)})"
    return (
        f"false alarms: promised {percentage(certificate.promised)}, measured {percentage(certificate.level)}"
        f"{bounds} in {_sham(certificate.n_healthy)}"
    )


def power_words(certificate: Certificate) -> str:
    """What the test finds and how fast; empty while no degraded sham stream was followed."""
    if math.isnan(certificate.power):
        return ""
    delay = f"{certificate.delay:.3g}"
    median = f"median delay {delay} batch{'' if delay == '1' else 'es'}, "
    return (
        f"power: of losses raised by {percentage(certificate.rise)}, {percentage(certificate.power)} alarm in the "
        f"first batch, {percentage(certificate.caught)} within those followed "
        f"({'' if math.isnan(certificate.delay) else median}{_sham(certificate.n_degraded)})"
    )


def incident_words(incident: IncidentView) -> str:
    """Who got worse together, by how much, since when.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> incident_words(IncidentView(id="41-site=lhr", label_set="site=lhr", labels={"site": "lhr"}, first_batch=41,
    ...     last_batch=43, starts_at=datetime(2001, 3, 3, tzinfo=UTC), ends_at=datetime(2001, 3, 6, tzinfo=UTC),
    ...     goes_on=True, n_members=41, rise=0.63, p_value=0.0001))
    'site=lhr: 41 streams +63.0 % together since batch 41 (2001-03-03 00:00)'
    """
    streams = f"{incident.n_members:,} stream{'' if incident.n_members == 1 else 's'}"
    start = f"batch {incident.first_batch}{_at(incident.starts_at)}"
    when = (
        f"since {start}" if incident.goes_on else f"from {start} to batch {incident.last_batch}{_at(incident.ends_at)}"
    )
    rise = "" if math.isnan(incident.rise) else f" {percent(incident.rise)}"
    return f"{incident.label_set}: {streams}{rise} together {when}"


def _at(time: datetime | None) -> str:
    return "" if time is None else f" ({minute(time)})"


def together(incidents: Sequence[IncidentView]) -> str:
    """To which incidents a stream belonged in its batch; recorded with it, so one is missing only by mistake."""
    if not incidents:
        return "no incident of this batch is on record"
    return "; ".join(f"{incident_words(incident)}, p = {number(incident.p_value)}" for incident in incidents)


def decided_instead(decision: Decision, trained_after: int | None, *, policy: str, fallback_every: int | None) -> str:
    """What decided about a stream whose test is not armed.

    Parameters
    ----------
    decision
        Of a batch, for the reason ``uncertified``.
    trained_after
        Batch of the stream's last training before it; None when it has none.
    policy
        Of the state; empty when it is not known.
    fallback_every
        Batches of the calendar; None when it is not known.
    """
    kind = parse(policy).kind if policy else PolicyKind.TEST
    if decision.proposed is Action.KEEP and kind is not PolicyKind.TEST:  # only a calendar proposes for this reason
        if kind is PolicyKind.MLMA:
            return "the debt: what age has cost was not worth a training"
        return f"the policy {policy}, which does not ask the test"
    due = decision.proposed is not Action.KEEP
    if trained_after is None:
        return f"the calendar, and it was {'' if due else 'not '}due"
    age = decision.batch - trained_after
    start = (
        f"the calendar: the last training, after batch {trained_after}, was {age} batch{'' if age == 1 else 'es'} old"
    )
    if fallback_every is None:
        return f"{start}, so it was {'' if due else 'not '}due"
    return f"{start}, due after {fallback_every}"


def monitored(
    decision: Decision | None,
    certificate: Certificate | None,
    incidents: Sequence[IncidentView],
    versions: Iterable[Version],
    meta: Mapping[str, str],
) -> tuple[Fact, ...]:
    """Lines of an explanation on the incidents of its batch and on a test that is not certified; often none.

    Parameters
    ----------
    decision, certificate, incidents
        The stream's last one, the fleet's newest, and those of the decision's batch that the stream belongs to.
    versions
        Of the stream.
    meta
        What the daemon wrote down about the state.
    """
    lines, policy, fallback_every = [], meta.get("policy", ""), fallback_of(meta)
    if decision is not None and (incidents or decision.reason is Reason.INCIDENT):
        lines.append(Fact(label="incident", text=together(incidents)))
    if decision is not None and decision.reason is Reason.UNCERTIFIED:
        trained = max((version.batch for version in versions if version.batch < decision.batch), default=None)
        told = decided_instead(decision, trained, policy=policy, fallback_every=fallback_every)
        lines.append(Fact(label="decided by", text=told))
    if certificate is not None and certificate.status is not CertificateStatus.CERTIFIED:
        sentences = certificate_lines(certificate, policy=policy, fallback_every=fallback_every)
        lines.append(Fact(label="certificate", text="; ".join(sentences[:TOLD])))
    return tuple(lines)

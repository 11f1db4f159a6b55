"""What a digest says about the test itself, by its certificate, and about streams that got worse together."""

from datetime import datetime, timedelta

from mlma.core.decisions import CertificateStatus
from mlma.core.digest_parts import SHOWN_BRIEFLY, DigestInputs, Entry, Section
from mlma.core.digest_words import WIDTH, count, lead, rise
from mlma.core.incident_view import IncidentView, by_size
from mlma.core.shares import interval, percentage

COMMAND = "mlma incidents"

_ROOM = WIDTH - 5  # columns after the number of an entry
_DAY = timedelta(days=1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in no locale


def is_armed(inputs: DigestInputs) -> bool:
    """Whether alarms of the test count."""
    return inputs.certificate is None or inputs.certificate.is_armed


def measured(inputs: DigestInputs) -> str:
    """Rate of false alarms that was promised, beside the one that sham streams measured, on one line."""
    certificate = inputs.certificate
    if certificate is None:
        return f"sham tests: none so far, {percentage(inputs.alpha)} promised: no certificate"
    promised = f"sham tests: {percentage(certificate.promised)} promised"
    if certificate.status is CertificateStatus.PENDING:
        return f"{promised}, {certificate.n_healthy:,} do not say enough yet: pending"
    bounds = interval(certificate.level_low, certificate.level_high)
    verdict = "FAILED" if certificate.status is CertificateStatus.FAILED else "certified"
    level = f"{percentage(certificate.level)} {bounds}".rstrip()
    return f"{promised}, {level} measured: {verdict}"


def unarmed(inputs: DigestInputs) -> str:
    """One sentence on a test that failed its certificate."""
    certificate = inputs.certificate
    assert certificate is not None
    level, promised = percentage(certificate.level), percentage(certificate.promised)
    return f"loss test NOT ARMED: {level} false alarms where {promised} are promised"


def incidents_seen(inputs: DigestInputs) -> Section:
    """Incidents of the period, ranked by members times rise."""
    ranked = by_size(inputs.incidents)
    if not ranked:
        return Section(summary="none")
    n_open = sum(one.goes_on for one in ranked)
    state = f"{n_open:,} {'goes' if n_open == 1 else 'go'} on" if n_open else "over"
    shown = tuple(Entry(text=lead(one.label_set, _told(one), width=_ROOM)) for one in ranked[:SHOWN_BRIEFLY])
    return Section(
        summary=f"{count(len(ranked), 'incident')}, {state}: {COMMAND}",
        entries=shown,
        n_more=len(ranked) - len(shown),
    )


def _told(incident: IncidentView) -> str:
    """Members, size and time of an incident."""
    return f"{count(incident.n_members, 'stream')} {rise(incident.rise)} ".replace("  ", " ") + span(incident)


def span(incident: IncidentView) -> str:
    """When an incident was seen: in days, or to the minute where a batch is shorter than a day.

    Examples
    --------
    >>> from datetime import UTC
    >>> seen = IncidentView(id="1-", label_set="the whole fleet", labels={}, first_batch=1, last_batch=3,
    ...     starts_at=datetime(2001, 3, 3, tzinfo=UTC), ends_at=datetime(2001, 3, 6, tzinfo=UTC), goes_on=False,
    ...     n_members=9, rise=0.5, p_value=0.0)
    >>> span(seen)
    'from 3 Mar to 5 Mar'
    """
    start, end = incident.starts_at, incident.ends_at
    n_batches = incident.last_batch - incident.first_batch + 1
    if start is None or end is None:
        first, last = f"batch {incident.first_batch}", f"batch {incident.last_batch}"
    elif (end - start) / n_batches < _DAY:
        first, last = _minute(start), _minute(end)
    else:
        first, last = _day(start), _day(end - timedelta(microseconds=1))  # the end itself belongs to the next batch
    if incident.goes_on:
        return f"since {first}"
    return f"on {first}" if first == last else f"from {first} to {last}"


def _day(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]}"


def _minute(at: datetime) -> str:
    return f"{_day(at)} {at:%H:%M}"

"""Incidents as people read them: when they began, whether they go on, which streams are in them. No rule here.

What an incident is and when one is raised is decided where the batch is tested.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mlma.core.records import Incident
from mlma.core.schedule import Schedule
from mlma.core.selection import LabelSelector

WHOLE_FLEET = "the whole fleet"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """One incident with its place in event time; times are None before a schedule is known."""

    id: str
    label_set: str  # as it can be typed in a selection; WHOLE_FLEET without labels
    labels: Mapping[str, str]
    first_batch: int
    last_batch: int  # the newest in which it was seen
    starts_at: datetime | None  # start of the first batch
    ends_at: datetime | None  # end of the last batch
    goes_on: bool  # it was seen in the last closed batch
    n_members: int
    rise: float  # relative, 0.63 is 63 %
    p_value: float

    @property
    def size(self) -> float:
        """Members times rise, by which incidents are ranked; 0 when the rise is unknown."""
        return 0.0 if math.isnan(self.rise) else self.n_members * min(abs(self.rise), 1e6)


def view(incident: Incident, *, schedule: Schedule | None, cursor: int | None) -> IncidentView:
    """An incident as people read it.

    Parameters
    ----------
    incident
        As it was recorded.
    schedule
        Of the fleet; None leaves the times out.
    cursor
        The last closed batch.
    """
    return IncidentView(
        id=incident.id,
        label_set=label_set(incident.labels),
        labels=dict(incident.labels),
        first_batch=incident.first_batch,
        last_batch=incident.last_batch,
        starts_at=schedule.time_of(schedule.first_slot(incident.first_batch)) if schedule else None,
        ends_at=schedule.time_of(schedule.origin_after(incident.last_batch)) if schedule else None,
        goes_on=cursor is not None and incident.last_batch >= cursor,
        n_members=incident.n_members,
        rise=incident.rise,
        p_value=incident.p_value,
    )


def label_set(labels: Mapping[str, str]) -> str:
    """Labels as a selection that can be typed, in order of their keys.

    Examples
    --------
    >>> label_set({"site": "lhr", "product": "cold food"}), label_set({})
    ('product="cold food",site=lhr', 'the whole fleet')
    """
    chosen = (LabelSelector(key=key, value=value, equal=True) for key, value in sorted(labels.items()))
    return ",".join(map(str, chosen)) or WHOLE_FLEET


def concerns(labels: Mapping[str, str], incident: Incident | IncidentView, batch: int) -> bool:
    """Whether an incident was under way in a batch and its label set is among a stream's labels."""
    if not incident.first_batch <= batch <= incident.last_batch:
        return False
    return all(labels.get(key) == value for key, value in incident.labels.items())


def by_size(views: Iterable[IncidentView]) -> list[IncidentView]:
    """Incidents by members times rise, the largest first; then the newest, then by name."""
    return sorted(views, key=lambda one: (-one.size, -one.last_batch, -one.first_batch, one.id))

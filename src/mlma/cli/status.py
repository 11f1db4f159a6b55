"""`mlma status`: a state on one screen."""

from typing import TYPE_CHECKING

from mlma.cli.options import STATE, JsonOption, StateOption, opened
from mlma.cli.output import pairs, print_json, tabulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlma.core.explanation import StreamCount
    from mlma.core.incident_view import IncidentView
    from mlma.runtime.overview import DaemonView, LossTestView, Overview, QuarantineView

INCIDENTS_SHOWN = 5


def status(state: StateOption = STATE, as_json: JsonOption = False) -> None:
    """Show on one screen how the fleet is: daemon, batches, alarms, certificate, incidents, pools, orders, rows.

    Works whether the daemon runs or not, and says which.

    Example: [bold]mlma status --state demo-state[/bold]
    """
    from mlma import bootstrap
    from mlma.runtime.overview import overview

    with opened(state) as found:
        # the history needs PyArrow, which takes longer to load than all the rest: not before there is a pool
        history = found.history if "serve" in found.store.meta() else None
        view = overview(found.store, found.schedule, bootstrap.clock().now(), history=history)
    if as_json:
        print_json({"state": state, **_fields(view)})
        return
    tabulate(pairs([("state", str(state)), *lines(view)]))


def _fields(view: "Overview") -> dict[str, object]:
    return {name: getattr(view, name) for name in view.__dataclass_fields__}


def lines(view: "Overview") -> list[tuple[str, str]]:
    """Labels and texts of the screen, at most 32."""
    from mlma.runtime.pool_status import serving_words, training_words
    from mlma.runtime.waiting import waiting_words

    serving = serving_words(view.pools)
    shown = [
        ("daemon", daemon_words(view.daemon)),
        ("streams", f"{view.n_streams:,}: {view.n_champions:,} served by a champion, {view.n_fallback:,} by naive"),
        ("batches", _batches(view)),
        ("last batch", _last(view)),
        *test_lines(view.loss_test),
        *incident_lines(view.incidents),
        ("loss / naive", _loss(view)),
        *([("serving", serving)] if serving else []),
        ("versions", f"{view.n_versions:,} trained; {training_words(view.pools)}"),
        *(("", waiting_words(training)) for training in view.waiting),
        ("orders", f"{_counts(view.overrides) or 'no'} overrides; {view.n_open_requests:,} open requests"),
        ("findings", _counts(view.findings) or "none open"),
    ]
    shown += [("", f"{f.subject}: {f.message}") for f in view.newest_findings]
    return shown + quarantine_lines(view.quarantine)


def daemon_words(daemon: "DaemonView") -> str:
    """Whether the daemon is up, in words."""
    lease = daemon.lease
    if lease is None or daemon.age_s is None:
        return "not running; what you order now is obeyed when it starts"
    age = f"{daemon.age_s:.0f} s" if daemon.age_s < 600 else f"{daemon.age_s / 3600:,.1f} h"
    where = f"process {lease.pid} on {lease.host}"
    if daemon.is_up:
        return f"up: {where} since {lease.started_at:%Y-%m-%d %H:%M} UTC, heartbeat {age} ago"
    return f"DOWN: {where} gave its last heartbeat {age} ago; see `mlma doctor`"


def _batches(view: "Overview") -> str:
    if view.judged_until is None:
        return "none closed yet"
    return f"{view.n_batches:,} closed, up to {view.judged_until:%Y-%m-%d %H:%M} UTC"


def _last(view: "Overview") -> str:
    last = view.last
    if last is None:
        return "-"
    held = f"; held: {_counts(last.held)}" if last.held else ""
    done = _counts(last.actions) or "all kept"
    return f"{last.n_tested:,} of {last.n_judged:,} tested, {last.alarms:,} alarms; {done}{held}"


def test_lines(test: "LossTestView") -> list[tuple[str, str]]:
    """What the test promised and what was measured; what decides instead while it is not armed."""
    from mlma.runtime.monitor_words import certificate_lines

    told = certificate_lines(test.certificate, policy=test.policy, fallback_every=test.fallback_every)
    return [("loss test" if not row else "", text) for row, text in enumerate(told)]


def incident_lines(incidents: "Sequence[IncidentView]") -> list[tuple[str, str]]:
    """Incidents that go on, the largest ones."""
    from mlma.runtime.monitor_words import incident_words

    if not incidents:
        return [("incidents", "none goes on")]
    told = [incident_words(incident) for incident in incidents[:INCIDENTS_SHOWN]]
    if len(incidents) > INCIDENTS_SHOWN:
        told.append(f"and {len(incidents) - INCIDENTS_SHOWN:,} more: mlma incidents --open")
    return [("incidents" if not row else "", text) for row, text in enumerate(told)]


def _loss(view: "Overview") -> str:
    loss = view.loss
    if loss.recent_median != loss.recent_median:
        return "nothing scored yet"
    last = "-" if loss.last_median != loss.last_median else f"{loss.last_median:.3f}"
    return (
        f"median stream {loss.recent_median:.3f} over the newest {loss.recent_batches} batches, {last} in the last; "
        f"{loss.recent_share_better:.0%} of the streams better than naive"
    )


def _counts(counts: "Mapping[str, int]") -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def quarantine_lines(quarantine: "QuarantineView") -> list[tuple[str, str]]:
    """Rows that were not admitted: how many, why and where."""
    q = quarantine
    refused = f", {q.n_refused_files:,} refused as a whole" if q.n_refused_files else ""
    late = f", {q.n_late:,} late (for training only)" if q.n_late else ""
    rows = [("rows", f"{q.n_rows:,} from {q.n_files:,} files{refused}; {q.n_rejected:,} quarantined{late}")]
    if q.by_reason:
        rows.append(("quarantine", _counts(q.by_reason)))
        rows.append(("", f"most in streams {_worst(q.worst_streams)}"))
        rows.append(("", f"most in files {_worst(q.worst_files)}"))
    return rows


def _worst(counts: "Sequence[StreamCount]") -> str:
    return ", ".join(f"{entry.name} ({entry.count:,})" for entry in counts)

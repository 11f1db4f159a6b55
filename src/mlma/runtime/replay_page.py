"""The report of a replay as one HTML page that needs nothing else: pictures, costs, differences, settings."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import cast

import numpy as np

from mlma.core.policy import PolicyKind
from mlma.core.policy_costs import MAIN_PRICE, PRICES
from mlma.core.settings import Serve
from mlma.runtime.replay_charts import Dot, Strip, loss_against_trainings, spread_by_stream
from mlma.runtime.replay_compare import Comparison, Entry, price_key
from mlma.runtime.replay_report import ReplayReport
from mlma.runtime.replay_style import STYLE

Figures = Mapping[str, object]
LISTED = 20
"""Streams of a table where the calendar wins; the JSON has more."""


def page(report: ReplayReport, figures: Figures, command: str) -> str:
    """The page.

    Parameters
    ----------
    report
        Whose streams are drawn.
    figures
        What `ReplayReport.to_json` gave.
    command
        That the page was made with, as it is typed.
    """
    beside = report.compared
    policies = cast("Mapping[str, Figures]", figures["policies"])
    sections = [_head(figures)]
    if beside is None:
        sections.append("<p>Without the policy <code>always</code> there is nothing to compare with.</p>")
    else:
        sections += [
            _pictures(beside, policies), _costs(policies), _differences(policies, beside),
            _where_the_calendar_wins(policies),
        ]  # fmt: skip
    sections.append(_made_with(figures, command))
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>mlma replay</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _head(figures: Figures) -> str:
    settings = cast("Figures", figures["settings"])
    data = str(settings.get("data", "")).rsplit("/", 1)[-1]
    told = (
        f"{figures['streams']:,} streams, {figures['batches']:,} batches of {settings.get('batch')} after a warm-up of "
        f"{settings.get('train_window')}; forecasts {settings.get('horizon')} ahead at a frequency of "
        f"{settings.get('frequency')}; model {settings.get('model')}"
    )
    return f'<h1>Retraining policies on {escape(data)}</h1><p class="muted">{escape(told)}.</p>'


def _group(entry: Entry) -> str:
    if entry.policy.kind is PolicyKind.MLMA:
        return "agent"
    return "pooled" if entry.policy.serve is Serve.BLEND else "latest"


def _pictures(beside: Comparison, policies: Mapping[str, Figures]) -> str:
    dots, strips = [], []
    for name, entry in beside.entries.items():
        ends = cast("list[float] | None", policies[name]["relative_loss_interval"])
        if ends is None or not np.isfinite(entry.compared.mean) or not entry.compared.share > 0.0:
            continue
        group = _group(entry)
        dots.append(
            Dot(
                name=name, group=group, share=entry.compared.fits_share, loss=entry.compared.mean, low=ends[0],
                high=ends[1],
            )
        )  # fmt: skip
        known = entry.compared.relative[np.isfinite(entry.compared.relative)]
        if name != PolicyKind.ALWAYS:
            strips.append(Strip(name=name, group=group, values=known))
    if not dots:
        return "<p>No stream was scored under always.</p>"
    shown = (
        "<h2>Loss against trainings</h2><p>Below and to the left is better. Loss is relative to retraining at every "
    )
    shown += "batch (1), with 95 % bootstrap intervals over the streams. "
    shown += "Blue: the agent. Brown: the latest version serves. Green: the pool serves. Purple: the best sequence of "
    shown += f"single versions in hindsight.</p>{loss_against_trainings(dots, _frontier(policies))}"
    if strips:
        shown += (
            "<h2>Spread over the streams</h2><p>Box: quartiles; line: 5 to 95 %; thick line: median; dots: streams. "
        )
        shown += f"What lies beyond the axis is drawn at its end.</p>{spread_by_stream(strips)}"
    return shown


def _frontier(policies: Mapping[str, Figures]) -> list[tuple[float, float]]:
    found = next((row for name, row in policies.items() if name.startswith(PolicyKind.FRONTIER)), None)
    if found is None:
        return []
    prices = cast("Mapping[str, Mapping[str, float]]", found["by_price"])
    return [(one["training_share"], one["relative_loss"]) for one in prices.values()]


def _costs(policies: Mapping[str, Figures]) -> str:
    keys = [price_key(price) for price in PRICES]
    costs = {name: cast("Mapping[str, float | None]", row["total_cost"]) for name, row in policies.items()}
    real = [name for name in policies if "by_price" not in policies[name]]
    least = {key: min((cost for name in real if (cost := costs[name][key]) is not None), default=None) for key in keys}
    rows = []
    for name, row in policies.items():
        mean = cast("Mapping[str, float | None]", row["relative_loss_to_always"])["mean"]
        ends = cast("Sequence[float] | None", row["relative_loss_interval"])
        between = "" if ends is None else f" <small>{ends[0]:.3f} to {ends[1]:.3f}</small>"
        by_price = cast("Mapping[str, Mapping[str, object]]", row.get("by_price") or {})
        cells = "".join(
            _cell(costs[name][key], is_best=name in real and costs[name][key] == least[key],
                  more=str(by_price.get(key, {}).get("policy", "")))
            for key in keys
        )  # fmt: skip
        rows.append(
            f"<tr><td>{escape(name)}</td><td>{_number(mean)}{between}</td><td>{row['trainings']:,}</td>"
            f"<td>{_number(row['training_share_of_always'])}</td><td>{_number(row['training_cpu_share_of_always'])}</td>"
            f"{cells}</tr>"
        )
    heads = "".join(f"<th>cost at {key}</th>" for key in keys)
    left_out = next(iter(policies.values()))["streams_left_out"]
    return (
        "<h2>Total cost</h2><p>Loss relative to always + price of a training &times; the larger of the two shares. "
        "The lowest cost of what can be run is in green; <code>calendar:best</code> and <code>frontier</code> know the "
        f"future, and their other figures are those at a price of {MAIN_PRICE:g}. Streams left out because always has "
        f'no loss there: {left_out}.</p><div class="wide"><table><tr><th>policy</th><th>loss / always</th>'
        f"<th>trainings</th><th>share</th><th>CPU share</th>{heads}</tr>{''.join(rows)}</table></div>"
    )


def _cell(cost: float | None, *, is_best: bool, more: str) -> str:
    beside = f" <small>{escape(more)}</small>" if more else ""
    return f'<td class="best">{_number(cost)}</td>' if is_best else f"<td>{_number(cost)}{beside}</td>"


def _differences(policies: Mapping[str, Figures], beside: Comparison) -> str:
    others = [name for name in (PolicyKind.ALWAYS.value, beside.opponent()) if name is not None]
    rows = []
    for name, row in policies.items():
        against = cast("Mapping[str, Mapping[str, float | None]]", row["cost_difference"])
        cells = "".join(_difference(against.get(other)) for other in others)
        rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    heads = "".join(f"<th>against {escape(other)}</th>" for other in others)
    return (
        f"<h2>Differences in cost at a price of {MAIN_PRICE:g}</h2><p>With 95 % paired bootstrap intervals over the "
        "streams; below 0 is cheaper. An interval without 0 is a difference that other streams of this kind would show "
        f'too.</p><div class="wide"><table><tr><th>policy</th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _difference(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return "<td></td>"
    middle, low, high = (_number(found[key], sign=True) for key in ("difference", "low", "high"))
    return f"<td>{middle} <small>{low} to {high}</small></td>" if middle != "-" else "<td>-</td>"


def _where_the_calendar_wins(policies: Mapping[str, Figures]) -> str:
    parts = ["<h2>Where the calendar wins</h2>"]
    for name, row in policies.items():
        found = cast("Figures | None", row["against_calendar"])
        if found is None or not name.startswith(PolicyKind.MLMA):
            continue
        calendar, lost = escape(str(found["calendar"])), cast("Sequence[Mapping[str, float]]", found["lost_streams"])
        parts.append(
            f"<p><b>{escape(name)}</b> against {calendar}, the best calendar in hindsight at a price of "
            f"{found['price']:g}: cheaper on {found['wins']:,} streams, equal on {found['ties']:,}, dearer on "
            f"{found['losses']:,}.</p>"
        )
        if lost:
            parts.append(_lost(lost, name, calendar))
    if len(parts) == 1:
        parts.append("<p>The agent and a calendar have to be among the policies for this.</p>")
    return "".join(parts)


def _lost(lost: Sequence[Mapping[str, float]], name: str, calendar: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(one['stream']))}</td><td>{_number(one['relative_loss'])}</td><td>{one['trainings']:,}</td>"
        f"<td>{_number(one['cost'])}</td><td>{_number(one['calendar_relative_loss'])}</td>"
        f"<td>{one['calendar_trainings']:,}</td><td>{_number(one['calendar_cost'])}</td></tr>"
        for one in lost[:LISTED]
    )
    mine = escape(name)
    return (
        f'<div class="wide"><table><tr><th>stream</th><th>{mine}: loss</th><th>trainings</th><th>cost</th>'
        f"<th>{calendar}: loss</th><th>trainings</th><th>cost</th></tr>{rows}</table></div>"
    )


def _made_with(figures: Figures, command: str) -> str:
    settings, cpu = cast("Figures", figures["settings"]), cast("Mapping[str, float | None]", figures["cpu"])
    rows = "".join(
        f'<tr><td>{escape(key)}</td><td class="text">{escape(_said(value))}</td></tr>'
        for key, value in settings.items()
        if value not in (None, "", {}, ())
    )
    ratio = "" if cpu["ratio"] is None else f", {cpu['ratio']:.2f} times those of always alone"
    return (
        f"<h2>Settings</h2><p>Made with</p><pre>{escape(command)}</pre>"
        f'<div class="wide"><table>{rows}</table></div><p class="muted">All policies together took '
        f"{cpu['all_policies_s']:,.1f} CPU seconds{ratio}; {cpu['rest_s']:,.1f} of them were neither trainings nor "
        f"forecasts. Trainings and forecasts that several policies need are made once and charged to each.</p>"
    )


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={inner}" for key, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _number(value: object, *, sign: bool = False) -> str:
    return "-" if value is None else f"{cast('float', value):{'+' if sign else ''}.3f}"

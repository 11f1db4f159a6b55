"""Pictures: one stream with its decisions, and a fleet batch by batch. matplotlib draws, nothing is computed here."""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # no display is needed or asked for
from matplotlib import dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mlma.core.explanation import Explanation, FleetView, MarkKind

SIZE_IN = (14.0, 9.0)
DPI = 100
"""1400 x 900 pixels."""

INK, GRID, PALE = "#1f2933", "#e4e7eb", "#7b8794"
SERVED, NAIVE, ADAPTIVE, ANCHORED = "#0b69a3", "#b0b7bf", "#2f9e44", "#e8590c"
ALARM, TRAINED = "#c92a2a", "#5f3dc4"

MARKS: dict[MarkKind, tuple[str, str]] = {
    MarkKind.RETRAIN: ("o", TRAINED),
    MarkKind.PROMOTE: ("^", "#2b8a3e"),
    MarkKind.REJECT: ("x", ALARM),
    MarkKind.ROLL_BACK: ("<", "#d9480f"),
    MarkKind.HELD: ("s", "#f08c00"),
}
"""Marker and colour; colour-blind readers have the shape and the row."""

STYLE = {
    "font.size": 11,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
}


def stream_png(explanation: Explanation, path: Path) -> None:
    """Draw outcomes against forecasts, and batch losses with references and decisions, over one time axis.

    Raises
    ------
    OSError
        The file cannot be written.
    """

    def draw(figure: Figure) -> None:
        upper, lower, strip = figure.subplots(3, 1, sharex=True, height_ratios=[5, 4, 1.5])
        _targets(upper, explanation)
        _losses(lower, explanation)
        _marks(strip, explanation)
        for mark in explanation.marks:
            for axes in (upper, lower):
                axes.axvline(_number(mark.at), color=MARKS[mark.kind][1], linewidth=0.8, alpha=0.3, zorder=0)
        figure.suptitle(_headline(explanation), x=0.012, ha="left", fontsize=14, fontweight="bold")

    _save(draw, path)


def _headline(explanation: Explanation) -> str:
    decision = explanation.decision
    if decision is None:
        return f"{explanation.stream.name}: no batch was judged yet"
    held = f", held: {decision.held_by}" if decision.held_by else ""
    at = f"{explanation.batch_end:%Y-%m-%d}"
    return f"{explanation.stream.name}: {decision.action} ({decision.reason}{held}) after the batch that ended {at}"


def _targets(axes: Axes, explanation: Explanation) -> None:
    targets = explanation.targets
    axes.plot(targets.time, targets.naive, color=NAIVE, linewidth=0.9, label="seasonal naive")
    axes.plot(targets.time, targets.y, color=INK, linewidth=1.1, label="outcome y")
    axes.plot(targets.time, targets.forecast, color=SERVED, linewidth=1.2, alpha=0.85, label="forecast served")
    axes.set_ylabel("y")
    axes.set_title("Outcomes and forecasts")
    if not len(targets.time):
        _say(axes, "nothing was forecast yet")
        return
    # Room for the worst of outcomes and served forecasts; naive may leave the picture.
    shown = np.concatenate([targets.y, targets.forecast])
    shown = shown[np.isfinite(shown)]
    if len(shown) and shown.max() > shown.min():
        room = 0.05 * (shown.max() - shown.min())
        axes.set_ylim(shown.min() - room, shown.max() + room)
    _legend(axes)


def _losses(axes: Axes, explanation: Explanation) -> None:
    losses = explanation.losses
    axes.set_title("Mean loss of each batch, at the batch's end")
    axes.set_ylabel("mean loss")
    if not len(losses.batch):
        _say(axes, "no batch was judged yet")
        return
    dot = "o" if len(losses.batch) <= 90 else ""
    axes.plot(losses.time, losses.naive_loss, color=NAIVE, marker=dot, markersize=3, label="seasonal naive")
    axes.plot(losses.time, losses.adaptive_mean, color=ADAPTIVE, linestyle="--", label="adaptive reference")
    axes.plot(losses.time, losses.anchored_mean, color=ANCHORED, linestyle=":", linewidth=2, label="anchored reference")
    axes.plot(losses.time, losses.mean_loss, color=SERVED, marker=dot, markersize=4, linewidth=1.8, label="served")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _marks(axes: Axes, explanation: Explanation) -> None:
    """One row for each kind of decision, so that two at the same moment do not hide each other."""
    kinds = list(MARKS)
    for row, kind in enumerate(kinds):
        marker, color = MARKS[kind]
        at = [_number(mark.at) for mark in explanation.marks if mark.kind is kind]
        axes.scatter(at, [row] * len(at), marker=marker, color=color, s=42, zorder=3)
    axes.set_yticks(range(len(kinds)), [str(kind) for kind in kinds], fontsize=10)
    for label, kind in zip(axes.get_yticklabels(), kinds, strict=True):
        label.set_color(MARKS[kind][1])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_title("Decisions")
    _time_axis(axes)


def fleet_png(view: FleetView, path: Path) -> None:
    """Draw a fleet by batch: loss against naive, alarms and retrainings, trainings, most retrained streams.

    Raises
    ------
    OSError
        The file cannot be written.
    """

    def draw(figure: Figure) -> None:
        grid = figure.add_gridspec(3, 2, width_ratios=[3.4, 1], height_ratios=[2, 1.3, 1])
        ratio = figure.add_subplot(grid[0, 0])
        shares = figure.add_subplot(grid[1, 0], sharex=ratio)
        trainings = figure.add_subplot(grid[2, 0], sharex=ratio)
        _ratio(ratio, view)
        _shares(shares, view)
        _trainings(trainings, view)
        _top(figure.add_subplot(grid[:, 1]), view)
        for axes in (ratio, shares):
            axes.tick_params(labelbottom=False)
        figure.suptitle(_fleet_headline(view), x=0.012, ha="left", fontsize=14, fontweight="bold")

    _save(draw, path)


def _fleet_headline(view: FleetView) -> str:
    return (
        f"{view.n_streams:,} streams, {len(view.batch):,} batches: {view.n_retrainings:,} retrainings, "
        f"{view.n_promoted:,} challengers promoted, {view.n_rejected:,} rejected"
    )


def _ratio(axes: Axes, view: FleetView) -> None:
    axes.set_title("Loss relative to seasonal naive")
    axes.axhline(1.0, color=PALE, linewidth=1.2, linestyle="--", label="as good as naive")
    axes.fill_between(
        view.time,
        view.ratio_low,
        view.ratio_high,
        color=SERVED,
        alpha=0.18,
        linewidth=0,
        label="10-90 % of the streams",
    )
    axes.plot(view.time, view.ratio_median, color=SERVED, linewidth=2, label="median stream")
    top = view.ratio_high[np.isfinite(view.ratio_high)]
    axes.set_ylim(0, max(1.15, 1.05 * float(np.quantile(top, 0.98))) if len(top) else 1.5)
    axes.set_ylabel("served / naive")
    _legend(axes)


def _shares(axes: Axes, view: FleetView) -> None:
    axes.set_title("Streams that alarmed and that were ordered to be retrained")
    axes.fill_between(view.time, view.alarm_share, color=ALARM, alpha=0.25, step="mid", linewidth=0, label="alarm")
    axes.step(view.time, view.retrain_share, where="mid", color=TRAINED, linewidth=1.4, label="retrain")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("share of streams")
    _legend(axes)


def _trainings(axes: Axes, view: FleetView) -> None:
    axes.set_title("Trainings after each batch, first ones included")
    axes.vlines(view.time, 0, view.trainings, color=TRAINED, linewidth=_bar_width(len(view.batch)))
    # The first trainings of the whole fleet would flatten all others.
    usual = np.sort(view.trainings)[: max(1, len(view.trainings) - 1)] if len(view.trainings) else np.zeros(1)
    largest, cut = float(view.trainings.max(initial=0)), 1.25 * float(usual.max()) + 1
    if largest > cut:
        at = view.time[int(view.trainings.argmax())]
        axes.set_ylim(0, cut)
        axes.annotate(f" {largest:,.0f}", (at, 0.86 * cut), color=TRAINED, fontsize=10)
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set_ylabel("trainings")
    _time_axis(axes)


def _bar_width(n_batches: int) -> float:
    return float(np.clip(650 / max(1, n_batches), 0.8, 12.0))


def _top(axes: Axes, view: FleetView) -> None:
    axes.set_title("Most retrained streams")
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.xaxis.set_visible(False)
    if not view.top_retrained:
        axes.yaxis.set_visible(False)
        _say(axes, "no stream was\nretrained")
        return
    counts = [entry.count for entry in view.top_retrained]
    names = [_short(entry.name) for entry in view.top_retrained]
    bars = axes.barh(range(len(counts)), counts, color=TRAINED, alpha=0.75, height=0.62)
    axes.bar_label(bars, padding=4, fontsize=11)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.18 * max(counts))
    axes.set_ylim(max(9.5, len(counts) - 0.5), -0.5)


def _short(name: str, length: int = 22) -> str:
    return name if len(name) <= length else f"{name[: length // 2 - 1]}...{name[-(length // 2 - 2) :]}"


def _time_axis(axes: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=4, maxticks=12)  # type: ignore[no-untyped-call]  # matplotlib types no dates
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # the same
    axes.margins(x=0.01)


def _number(at: object) -> float:
    return float(mdates.date2num(at))  # type: ignore[no-untyped-call]  # the same


def _legend(axes: Axes) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=5, fontsize=10, borderaxespad=0.2)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=PALE)


def _save(draw: Callable[[Figure], None], path: Path) -> None:
    """Draw on a figure of its own and write it beside, then rename: no reader sees half a picture."""
    temporary = path.with_name(f".{path.name}.tmp")
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # a literal for each of 300 names
        figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
        draw(figure)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, format="png", facecolor="white")
    temporary.replace(path)

"""How `mlma calibrate` shows what it measured: one screen of tables and the advice."""

from typing import TYPE_CHECKING

from mlma.cli.output import say, table, tabulate
from mlma.core.settings import LossTestName
from mlma.core.shares import percentage, rate
from mlma.runtime.calibration_words import delay_words, drift_words, setting_words

if TYPE_CHECKING:
    from rich.table import Table

    from mlma.monitor.calibration_figures import Calibration, Measured, Power, Share
    from mlma.runtime.calibrate import CalibrationReport


def show(report: "CalibrationReport") -> None:
    """Print a report."""
    figures = report.figures
    main, settings = figures.main, figures.main.settings
    made_by = f"{report.model}, trained once" if report.model else "recorded losses"
    say(
        f"{report.data} ({made_by}): {main.n_streams:,} stream{'' if main.n_streams == 1 else 's'}, "
        f"{main.n_batches:,} batches of {setting_words(main)} with {figures.n_targets:,} losses, "
        f"{report.first:%Y-%m-%d} to {report.last:%Y-%m-%d}"
    )
    yardstick = "relative to naive" if report.relative else "losses themselves"
    say(
        f"{settings.name}, alpha {percentage(settings.alpha)}, fleet rule {settings.fleet}, reference "
        f"{settings.reference} {settings.reference_size}, effect floor {percentage(settings.effect_floor)}, {yardstick}"
    )
    missing = (f"{percentage(figures.missing)} of the losses are missing",) if figures.missing else ()
    notes = (*report.notes, *missing)
    if notes:
        say("; ".join(notes))
    for shown in (
        _level(figures),
        _power(figures),
        _ramp(figures),
        _rules(figures),
        _tests(figures),
        _batches(figures),
    ):
        if shown is not None:
            say("")
            tabulate(shown)
    say("")
    for sentence in report.advice:
        say(sentence)


def _interval(share: "Share") -> str:
    return f"{rate(share.low)} to {percentage(share.high)}"


def _level(figures: "Calibration") -> "Table":
    rows = table(
        ["false alarms", "promised", "measured", "95 % interval", "tests", ""],
        right=("promised", "measured", "95 % interval", "tests"),
    )
    for one in (figures.main, *figures.alphas):
        certificate, promised = one.certificate, percentage(one.settings.alpha)
        rows.add_row(
            "sham streams", promised, percentage(certificate.level),
            f"{rate(certificate.level_low)} to {percentage(certificate.level_high)}", f"{certificate.n_healthy:,}",
            str(certificate.status),
        )  # fmt: skip
        rows.add_row(
            "streams as they are", promised, percentage(one.level.share), _interval(one.level), f"{one.level.n:,}",
            "true drift included",
        )  # fmt: skip
    return rows


def _power(figures: "Calibration") -> "Table | None":
    main = figures.main
    if main.chance is None:
        return None
    spans = [_within(batches) for batches in main.chance.within]
    headings = [spans[0], "95 % interval", *spans[1:]]
    rows = table(["loss raised by", *headings, "median delay", "trials"], right=(*headings, "trials"))
    for power in (main.chance, *main.power):
        rows.add_row(
            drift_words(power.drift), *_shares(power), delay_words(power, main), f"{power.at_once.n:,}",
        )  # fmt: skip
    for one in figures.alphas:
        found = one.headline()
        if found is not None and found.within == main.chance.within:
            rows.add_row(
                f"{drift_words(found.drift)}, alpha {percentage(one.settings.alpha)}", *_shares(found),
                delay_words(found, one), f"{found.at_once.n:,}",
            )  # fmt: skip
    return rows


def _ramp(figures: "Calibration") -> "Table | None":
    if figures.ramp is None or figures.ramp_chance is None:
        return None
    spans = [_within(batches) for batches in figures.ramp.within]
    headings = [spans[0], "95 % interval", *spans[1:]]
    rows = table(["loss grows by", *headings, "median delay", "trials"], right=(*headings, "trials"))
    for power in (figures.ramp_chance, figures.ramp):
        rows.add_row(
            drift_words(power.drift), *_shares(power), delay_words(power, figures.main), f"{power.at_once.n:,}"
        )
    return rows


def _shares(power: "Power") -> tuple[str, ...]:
    first, *later = (percentage(share.share) for share in power.caught)
    return first, _interval(power.at_once), *later


def _within(batches: int) -> str:
    return "first batch" if batches == 1 else f"within {batches}"


def _rules(figures: "Calibration") -> "Table":
    main = figures.main
    found = main.headline()
    spans = [] if found is None else [_within(batches) for batches in found.within]
    headings = ["alarms a batch", "99th pct", "with any", *spans]
    rows = table([_first("fleet rule", found), *headings], right=headings)
    for one in main.rules:
        power = () if one.power is None else one.power.caught
        rows.add_row(
            _marked(str(one.rule), yours=one.rule is main.settings.fleet), f"{one.mean:.3g}", f"{one.p99:.3g}",
            percentage(one.some), *(percentage(share.share) for share in power),
        )  # fmt: skip
    return rows


def _compared(figures: "Calibration", first: str, last: str) -> "Table":
    headings = ["false alarms", "95 % interval", "as they are", "first batch", "within 4"]
    return table([_first(first, figures.main.headline()), *headings, last, "certificate"], right=headings)


def _first(what: str, found: "Power | None") -> str:
    """Heading of a first column, with the drift that the columns after it are about."""
    return what if found is None else f"{what} ({drift_words(found.drift)})"


def _marked(name: str, *, yours: bool) -> str:
    return f"{name} (yours)" if yours else name


def _row(made: "Measured") -> tuple[str, ...]:
    certificate, power = made.certificate, made.headline()
    bounds = f"{rate(certificate.level_low)} to {percentage(certificate.level_high)}"
    # the sham streams of an e-process are tests of the p-values that it is fed with
    level = ("-", "-") if made.settings.name is LossTestName.E_PROCESS else (percentage(certificate.level), bounds)
    return (
        *level,
        percentage(made.level.share), "-" if power is None else percentage(power.at_once.share), _fourth(power),
    )  # fmt: skip


def _fourth(power: "Power | None") -> str:
    shares = {} if power is None else dict(zip(power.within, power.caught, strict=True))
    return percentage(shares[4].share) if 4 in shares else "-"


def _status(made: "Measured") -> str:
    return str(made.certificate.status) if made.certificate.is_armed else "FAILED"


def _tests(figures: "Calibration") -> "Table | None":
    if not figures.tests:
        return None
    rows = _compared(figures, "loss test", "alarms a batch")
    for one in figures.tests:
        name = _marked(str(one.settings.name), yours=one.settings.name is figures.main.settings.name)
        rows.add_row(name, *_row(one), f"{one.alarms:.3g}", _status(one))
    if figures.tests[0].n_streams < figures.main.n_streams or figures.tests[0].n_batches < figures.main.n_batches:
        one = figures.tests[0]
        rows.caption = f"on {one.n_streams} of the streams and the newest {one.n_batches} batches"
        rows.caption_justify = "left"
    return rows


def _batches(figures: "Calibration") -> "Table | None":
    if not figures.batches:
        return None
    rows = _compared(figures, "batch", "median delay")
    for one in (figures.main, *figures.batches):
        power = one.headline()
        delay = "-" if power is None else delay_words(power, one)
        rows.add_row(_marked(setting_words(one), yours=one is figures.main), *_row(one), delay, _status(one))
    return rows

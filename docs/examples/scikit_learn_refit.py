"""Many scikit-learn models: refit the ones whose forecasts got worse, and only them.

94 airports, one Ridge regression each, forecast the departures of every hour. Once a week the losses of the week go
into a `LossMonitor`; the models that alarm are fitted again on the newest four weeks. In your own code, replace
`departures` and `calendar` by your data and features: any regressor with `fit` and `predict` will do.

Run it with ``python docs/examples/scikit_learn_refit.py``.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from mlma import LossMonitor
from mlma.bootstrap import demo_data

WEEK = 7 * 24
TRAIN_WEEKS = 4

Floats = NDArray[np.float64]


def departures() -> tuple[Floats, pd.DatetimeIndex]:
    """Departures by airport and hour, shape (airports, hours), and the hours."""
    rows = pd.read_parquet(demo_data(), columns=["stream", "ts", "y"])
    hours = pd.DatetimeIndex(rows["ts"].dt.floor("h").unique())
    by_slot = rows["y"].to_numpy(np.float64)  # sorted by airport and time, four slots an hour, none missing
    return by_slot.reshape(rows["stream"].nunique(), len(hours), 4).sum(axis=2), hours


def calendar(hours: pd.DatetimeIndex) -> Floats:
    """Features, shape (hours, 72): the hour of a working day, of a Saturday or of a Sunday, as 0 or 1."""
    day = np.clip(hours.day_of_week.to_numpy() - 4, 0, 2)
    return np.asarray(np.eye(72)[day * 24 + hours.hour.to_numpy()], dtype=np.float64)


def replay(y: Floats, features: Floats, *, every: int = 0, monitor: LossMonitor | None = None) -> tuple[int, Floats]:
    """Forecast week by week; refit every so many weeks, or what alarms.

    Returns
    -------
    tuple[int, Floats]
        Refits, and the mean absolute error of each airport.
    """
    n, n_weeks = len(y), y.shape[1] // WEEK

    def fit(stream: int, week: int) -> Ridge:
        window = slice((week - TRAIN_WEEKS) * WEEK, week * WEEK)
        return Ridge(alpha=1.0).fit(features[window], y[stream, window])

    models = [fit(stream, TRAIN_WEEKS) for stream in range(n)]
    refits, losses = 0, []
    for week in range(TRAIN_WEEKS, n_weeks):
        start, end = week * WEEK, (week + 1) * WEEK
        forecast = np.stack([model.predict(features[start:end]) for model in models])
        loss = np.abs(y[:, start:end] - forecast)
        losses.append(loss.mean(axis=1))

        refit = np.full(n, every > 0 and (week - TRAIN_WEEKS + 1) % every == 0)
        if monitor is not None:
            naive_loss = np.abs(y[:, start:end] - y[:, start - WEEK : start])  # "as a week ago", the same hours
            refit = monitor.update(loss, yardsticks=naive_loss[None]).alarm
            monitor.reset(refit)  # the losses of the old models say nothing about the new ones
        for stream in np.flatnonzero(refit).tolist():
            models[stream] = fit(stream, week + 1)
        refits += int(refit.sum())
    return refits, np.mean(losses, axis=0)


def main() -> None:
    """Compare the monitor with calendars and with never."""
    y, hours = departures()
    features = calendar(hours)
    # An alarm costs one refit, so a rate for each stream is the right promise: no fleet rule. Models that go stale
    # together should be refitted too, so what they have in common is not taken out.
    monitor = LossMonitor(len(y), alpha=0.05, fleet="none", common=False)
    results = {
        "never": replay(y, features),
        "every 8th week": replay(y, features, every=8),
        "LossMonitor": replay(y, features, monitor=monitor),
        "every week": replay(y, features, every=1),
    }
    best = results["every week"][1]
    print(f"{'refit':<16}{'refits':>8}{'loss':>8}   relative to every week, mean over {len(y)} airports")
    for name, (refits, loss) in results.items():
        print(f"{name:<16}{refits:>8}{np.mean(loss / best):>8.3f}")
    seen = monitor.certificate
    print(f"false alarms: {seen.promised:.1%} promised, {seen.level:.1%} seen on sham streams")


if __name__ == "__main__":
    main()

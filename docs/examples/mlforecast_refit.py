"""When to refit a global mlforecast model: update it every week, refit it when `LossMonitor` says so.

60 shops, one LightGBM model for all of them, daily sales. Every Monday the coming week is forecast; when it is over,
its losses go into a `LossMonitor`. `MLForecast.update` takes in the new values and costs next to nothing;
`MLForecast.fit` is called only when the forecasts got worse and stay so. The sales are simulated, so that the truth is
known: from week 20 on, customers in the north react to discounts three times as strongly, and week 34 is a wild one
for everybody.

mlforecast wants an environment of its own, and mlma goes into it without its dependencies (`LossMonitor` needs NumPy
and SciPy only)::

    python -m venv peers
    peers/bin/python -m pip install -r docs/examples/mlforecast_requirements.txt
    peers/bin/python -m pip install --no-deps .
    peers/bin/python docs/examples/mlforecast_refit.py
"""

from collections.abc import Callable
from dataclasses import dataclass

import lightgbm
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import RollingMean, SeasonalRollingMean
from numpy.typing import NDArray

from mlma import LossMonitor

SHOPS, DAYS = 60, 7
TRAIN_WEEKS = 8
HISTORY, LIVE = 8, 44  # weeks
NORTH_CHANGES, WILD = 20, 34  # live weeks, from 0
REGION = np.array(["north", "south", "west", "east"])[np.arange(SHOPS) % 4]
NAMES = np.array([f"shop-{shop:02d}" for shop in range(SHOPS)])

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sales:
    """Sales and discounts, shape (shops, days)."""

    y: Floats
    discount: Floats

    def frame(self, first: int, end: int) -> pd.DataFrame:
        """Weeks ``first`` to ``end - 1`` as mlforecast wants them."""
        days = slice(first * DAYS, end * DAYS)
        n = (end - first) * DAYS
        return pd.DataFrame(
            {
                "unique_id": np.repeat(NAMES, n),
                "ds": np.tile(pd.date_range("2024-01-01", periods=end * DAYS)[days], SHOPS),
                "y": self.y[:, days].ravel(),
                "discount": self.discount[:, days].ravel(),
                "region": pd.Categorical(np.repeat(REGION, n)),
            }
        )


def simulate(seed: int) -> Sales:
    """Level, a weekly pattern, discounts that draw customers, a slow wandering, and noise."""
    rng = np.random.default_rng(seed)
    week = np.arange((HISTORY + LIVE) * DAYS) // DAYS - HISTORY
    shape = (SHOPS, len(week))
    discount = rng.choice([0.0, 0.1, 0.2, 0.3], p=[0.55, 0.15, 0.15, 0.15], size=shape)
    pull = np.where((REGION == "north")[:, None] & (week >= NORTH_CHANGES), 3.0, 1.0)
    level = rng.uniform(60.0, 140.0, (SHOPS, 1)) * np.resize([0.9, 0.9, 1.0, 1.0, 1.2, 1.4, 0.6], len(week))
    wandering = np.cumsum(rng.normal(0.0, 0.01, shape), axis=1)
    noise = rng.normal(0.0, 0.12, shape) * np.where(week == WILD, 2.5, 1.0)
    return Sales(level * np.exp(pull * discount + wandering + noise), discount)


def fit(sales: Sales, end: int, worse_since: int) -> MLForecast:
    """One model for all shops, from the newest weeks before week ``end``; those since it got worse count four times."""
    rows = sales.frame(end - TRAIN_WEEKS, end)
    week = np.tile(np.arange(end - TRAIN_WEEKS, end).repeat(DAYS), SHOPS)
    made = MLForecast(
        models={"y_hat": lightgbm.LGBMRegressor(n_estimators=80, num_leaves=15, n_jobs=1, verbosity=-1)},
        freq="D",
        lag_transforms={7: [RollingMean(28), SeasonalRollingMean(season_length=7, window_size=4)]},
        date_features=["dayofweek"],
    )
    rows["weight"] = np.where(week >= worse_since, 4.0, 1.0)
    return made.fit(rows, static_features=["region"], weight_col="weight")


class Trigger:
    """Refit when the fleet or a label set is worse for a second week, or when a tenth of the shops alarm.

    One model serves everybody, so it is what shops have in common that asks for a refit; a single bad week is over by
    itself. A refit in the second week has seen only two weeks of the new world, so another one follows later.
    """

    FOLLOW_UP = 4  # weeks after

    def __init__(self) -> None:
        self.monitor = LossMonitor(SHOPS, labels={"region": REGION.tolist()})
        self.worse_since = 0
        self.due: set[int] = set()
        self.log: list[str] = []

    def __call__(self, week: int, loss: Floats, naive_loss: Floats) -> int | None:
        """Judge a week by its losses, shape (shops, days): the week since which it is worse, None for no refit."""
        verdicts = self.monitor.update(loss, yardsticks=naive_loss[None])
        for incident in verdicts.incidents:
            who = ", ".join(f"{key}={value}" for key, value in incident.labels.items()) or "all shops"
            self.log.append(f"week {week}: {who} got worse together, by {incident.rise:.0%}")
        lasting = [incident for incident in verdicts.incidents if incident.last_batch == incident.first_batch + 1]
        if lasting or float(verdicts.alarm.mean()) >= 0.1:
            self.worse_since = min((incident.first_batch for incident in lasting), default=week)
            self.due = {week, week + self.FOLLOW_UP}
        if week not in self.due:
            return None
        self.log.append(f"week {week}: refit")
        self.monitor.reset(np.ones(SHOPS, dtype=bool))  # one model: the losses of every shop start over
        return self.worse_since


def replay(sales: Sales, asks: Callable[[int, Floats, Floats], int | None]) -> tuple[int, float]:
    """Forecast week by week; returns refits and the mean absolute error."""
    model, refits, losses = fit(sales, HISTORY, worse_since=HISTORY), 0, []
    for week in range(LIVE):
        at = HISTORY + week
        truth = sales.frame(at, at + 1)
        forecast = model.predict(DAYS, X_df=truth[["unique_id", "ds", "discount"]])
        # predict answers in the order of shops and days, which is that of the frames
        loss = np.abs(truth["y"].to_numpy() - forecast["y_hat"].to_numpy()).reshape(SHOPS, DAYS)
        now, before = (sales.y[:, w * DAYS : (w + 1) * DAYS] for w in (at, at - 1))
        losses.append(loss.mean())
        worse_since = asks(week, loss, np.abs(now - before))
        if worse_since is None:
            model.update(truth.drop(columns="region"))
        else:
            model = fit(sales, at + 1, HISTORY + worse_since)
            refits += 1
    return refits, float(np.mean(losses))


def every(weeks: int) -> Callable[[int, Floats, Floats], int | None]:
    """Refit by the calendar, with equal weights; 0 for never."""
    return lambda week, *_: LIVE if weeks and (week + 1) % weeks == 0 else None


def main() -> None:
    """Compare the trigger with never, a calendar and always."""
    sales, trigger = simulate(seed=0), Trigger()
    results = {
        "never": replay(sales, every(0)),
        "every 13th week": replay(sales, every(13)),
        "LossMonitor": replay(sales, trigger),
        "every week": replay(sales, every(1)),
    }
    print(f"{'refit':<16}{'refits':>8}{'loss':>8}")
    for name, (refits, loss) in results.items():
        print(f"{name:<16}{refits:>8}{loss:>8.2f}")
    print(*trigger.log, sep="\n")


if __name__ == "__main__":
    main()

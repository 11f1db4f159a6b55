"""What the agent itself costs: share of the CPU time of a replay that is neither training nor forecasting."""

from dataclasses import dataclass
from typing import Any, cast

from rich.table import Table

from benchmarks.measuring import significant
from mlma import bootstrap
from mlma.runtime.replay_data import ReplayRequest

STREAMS = 94
QUICK_STREAMS = 8
REPEATS = 3
POLICY = "mlma"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """CPU seconds of one replay under one policy."""

    streams: int
    batches: int
    trainings: int
    train_cpu_s: float
    predict_cpu_s: float
    rest_cpu_s: float

    @property
    def share(self) -> float:
        """The rest as a share of everything, in [0, 1]."""
        return self.rest_cpu_s / (self.train_cpu_s + self.predict_cpu_s + self.rest_cpu_s)


def request(streams: int, **changes: Any) -> ReplayRequest:
    """The shipped airport departures, hourly, tested week by week, as `mlma replay` would replay them."""
    return ReplayRequest(
        **{
            "data": bootstrap.demo_data(),
            "frequency": "1h",
            "horizon": "24h",
            "batch": "7d",
            "train_window": "56d",
            "limit_streams": streams,
            "policies": (POLICY,),
            "executor": "inline",
            **changes,
        }
    )


def replay(asked: ReplayRequest) -> Overhead:
    """Run one replay and read its CPU seconds off the report."""
    report = bootstrap.run_replay(asked).to_json()
    figures = cast("dict[str, Any]", report["policies"])[asked.policies[0]]
    cpu_s = figures["cpu_s"]
    return Overhead(
        streams=int(cast("int", report["streams"])),
        batches=int(cast("int", report["batches"])),
        trainings=figures["trainings"],
        train_cpu_s=cpu_s["train"],
        predict_cpu_s=cpu_s["predict"],
        rest_cpu_s=cpu_s["rest"],
    )


def measure(*, quick: bool) -> list[Overhead]:
    """Replay several times; a small replay before has everything imported."""
    replay(request(2))
    return [replay(request(QUICK_STREAMS if quick else STREAMS)) for _ in range(1 if quick else REPEATS)]


def tables(results: list[Overhead]) -> list[Table]:
    """One table: where the CPU time of the replay went."""
    table = Table(
        title=f"Replay of airport departures, LightGBM, policy {POLICY}: CPU seconds",
        caption="predict: loading versions, features, forecasts; rest: admission, tests, decisions, store.",
    )
    for heading in ("streams", "batches", "trainings", "train", "predict", "rest", "rest / all"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            str(result.streams),
            str(result.batches),
            str(result.trainings),
            significant(result.train_cpu_s),
            significant(result.predict_cpu_s),
            significant(result.rest_cpu_s),
            f"{result.share:.1%}",
        )
    return [table]

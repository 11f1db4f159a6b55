"""Runs inside driftfdr's own environment: reads losses from a file, writes driftfdr's evidence into another.

Imports nothing of ours, and driftfdr only when it is run.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

QUESTION, ANSWER = "question.npz", "answer.npz"
CALIBRATION = "healthy"
DETECTORS = ("driftfdr MeanShift(3)", "driftfdr MeanShift(1)", "driftfdr Page-Hinkley", "driftfdr e-CUSUM")
HORIZON = 5  # windows that it looks back, its default


def detectors() -> dict[str, Any]:
    """Driftfdr's detectors by the names of `DETECTORS`."""
    from driftfdr import ECUSUM, MeanShift, PageHinkley

    return dict(zip(DETECTORS, (MeanShift(3), MeanShift(1), PageHinkley(), ECUSUM()), strict=True))


def evidence(losses: Any, detector: Any, config: Any, cache: dict[Any, Any]) -> Any:
    """Minus the decimal logarithm of driftfdr's p-values, shape (streams, windows after the reference).

    ``run_monitor`` without a procedure tests every window and never alarms; the cache keeps the calibration of each
    stream's reference, which is the same whatever is injected later.
    """
    from driftfdr import Scenario, run_monitor

    tests = run_monitor(Scenario.from_arrays(losses), detector, None, config, cache=cache).tests
    p_value = tests.sort_values(["stream", "window"])["pvalue"].to_numpy().reshape(len(losses), -1)
    return -np.log10(np.maximum(p_value, 1e-300))


def main(directory: Path) -> None:
    """Answer one question."""
    from driftfdr import CalibrationConfig, MonitorConfig

    with np.load(directory / QUESTION) as question:
        losses = {k.partition("|")[2]: question[k] for k in question.files if k.startswith("losses|")}
        n_ref, window, n_boot = (int(question[k]) for k in ("n_ref", "window", "n_boot"))
    config = MonitorConfig(n_ref=n_ref, window=window, horizon=HORIZON, calibration=CalibrationConfig(n_boot=n_boot))
    answer: dict[str, Any] = {}
    for name, detector in detectors().items():
        references: dict[Any, Any] = {}
        for kind, values in losses.items():
            cache = {} if kind == CALIBRATION else references
            answer[f"{name}|{kind}"] = evidence(values, detector, config, cache)
    np.savez(directory / ANSWER, **answer)


def time_all(window: int, n_ref: int, *, models: int = 5) -> dict[str, tuple[float, float]]:
    """Microseconds per model to calibrate with the default settings, and to take in a window, by detector."""
    from driftfdr import CalibratedDetector

    rng = np.random.default_rng(0)
    found = {}
    for name, detector in detectors().items():
        calibrate, take_in = [], []
        for seed in range(models):
            losses = np.abs(rng.standard_normal(n_ref + window)).tolist()
            model = CalibratedDetector(detector, n_ref=n_ref, window=window, horizon=HORIZON, seed=seed)
            began = time.process_time()
            for loss in losses[:n_ref]:
                model.update(loss)
            middle = time.process_time()
            for loss in losses[n_ref:]:
                model.update(loss)
            calibrate.append(middle - began)
            take_in.append(time.process_time() - middle)
        found[name] = (1e6 * statistics.median(calibrate), 1e6 * statistics.median(take_in))
    return found


if __name__ == "__main__":
    if sys.argv[1] == "--time":
        sys.stdout.write(json.dumps(time_all(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main(Path(sys.argv[1]))

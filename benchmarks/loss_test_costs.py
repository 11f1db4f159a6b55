"""What an update of `LossMonitor` costs under each of its tests: CPU time and memory a stream, over the default's.

``python -m benchmarks.loss_test_costs`` prints medians over the updates after a warm-up, on losses that are the same
for all tests.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.detection_speed import WARM_UP
from benchmarks.measuring import Spread, ratio, ratio_text, significant, timed
from mlma import LossMonitor
from mlma.core.settings import LossTestName


def measure(streams: int, n: int, repeats: int) -> Table:
    """Update a monitor of each test in turn, batch by batch; the figures as a table."""
    rng = np.random.default_rng(0)
    monitors = {name: LossMonitor(streams, test=name) for name in LossTestName}
    us: dict[LossTestName, list[float]] = {name: [] for name in monitors}
    for batch in range(WARM_UP + repeats):
        losses = np.abs(rng.standard_normal((streams, n)))
        for name, monitor in monitors.items():
            seconds = timed(lambda monitor=monitor, losses=losses: monitor.update(losses))
            if batch >= WARM_UP:
                us[name].append(1e6 * seconds / streams)
    made = Table(title=f"An update of {streams:,} streams x {n} losses, medians of {repeats}")
    for heading in ("test", "us a stream", "over the default's", "state, bytes a stream"):
        made.add_column(heading, justify="left" if heading == "test" else "right")
    for name, monitor in monitors.items():
        over = ratio_text(ratio(us[name], us[LossTestName.MODERATED]))
        made.add_row(name, significant(Spread.of(us[name]).median), over, significant(monitor.nbytes / streams))
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loss_test_costs", description=__doc__)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--losses", type=int, default=96, help="of a stream in a batch")
    parser.add_argument("--repeats", type=int, default=16)
    options = parser.parse_args(argv)
    Console().print(measure(options.streams, options.losses, options.repeats))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

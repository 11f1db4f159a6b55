"""The figures of `mlma replay --json` are the ones that the manual explains."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from mlma.cli.main import app
from tests.docs.documents import MANUAL, text_of


def test_every_figure_of_a_replay_is_in_the_manual(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    times = pd.date_range("2001-01-01", periods=10 * 24, freq="h")
    daily = 20 + 5 * np.sin(np.arange(len(times)) * 2 * np.pi / 24)
    frames = [pd.DataFrame({"stream": name, "ts": times, "y": daily + rng.normal(size=len(times))}) for name in "AB"]
    data, out = tmp_path / "data.csv", tmp_path / "out.json"
    pd.concat(frames).to_csv(data, index=False)
    options = "--batch 1d --train-window 7d --model ridge --executor inline --policy always --policy mlma"

    ran = CliRunner().invoke(app, ["replay", str(data), *options.split(), "--json", str(out)])

    assert ran.exit_code == 0, ran.output
    figures = json.loads(out.read_text(encoding="utf-8"))
    rows = re.findall(
        r"^\| `([a-z_]+)` \|",
        text_of(MANUAL / "replay.md").split("## The figures")[1].split("## Bad data")[0],
        re.MULTILINE,
    )
    assert set(rows) == {*figures, *figures["policies"]["mlma"]}
    assert figures["policies"]["always"]["relative_loss_to_always"]["mean"] == 1.0
    assert set(figures["policies"]["mlma"]["cpu_s"]) == {"train", "evergreen", "predict", "rest"}

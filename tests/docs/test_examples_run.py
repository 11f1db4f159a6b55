"""The examples of the manual run as they are shipped, and say what the manual says about them."""

import hashlib
import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from mlma import LossMonitor
from mlma.core import judge
from mlma.core.decisions import CertificateStatus, Reason
from mlma.core.records import Certificate, Incident
from mlma.core.settings import FleetRule, LossTestName, ReferencePolicy
from mlma.monitor.verdicts import Verdicts
from tests.docs.documents import MANUAL, REPOSITORY, text_of

EXAMPLES = REPOSITORY / "docs" / "examples"
REQUIREMENTS = EXAMPLES / "mlforecast_requirements.txt"
PEERS = REPOSITORY / ".venv-peers"
PAGE = text_of(MANUAL / "loss-monitor.md")

ONLY_NUMPY_AND_SCIPY = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root not in {*sys.stdlib_module_names, "mlma", "numpy", "scipy"} and not root.startswith("_"):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
import numpy as np
from mlma import LossMonitor
monitor = LossMonitor(20, labels={"site": ["a", "b"] * 10})
for _ in range(4):
    verdicts = monitor.update(np.ones((20, 3)), np.ones((1, 20, 3)))
monitor.save("monitor.npz")
print(LossMonitor.load("monitor.npz").n_streams)
"""


def ran(python: str | Path, *arguments: str, where: Path, **environment: str) -> str:
    """What a program printed; it must end well."""
    # two BLAS threads for matrices of this size only wait for each other
    result = subprocess.run(
        [str(python), *arguments], cwd=where, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def table(printed: str) -> dict[str, tuple[int, float]]:
    """Refits and loss of each policy."""
    rows = re.findall(r"^(never|LossMonitor|every [\w ]+?) +(\d+) +([\d.]+)$", printed, re.MULTILINE)
    return {name: (int(refits), float(loss)) for name, refits, loss in rows}


def share_of_the_gain(rows: dict[str, tuple[int, float]]) -> float:
    """How much of what refitting every week gains over never is had with the monitor."""
    (_, never), (_, ours), (_, every) = (rows[name] for name in ("never", "LossMonitor", "every week"))
    return (never - ours) / (never - every)


def test_loss_monitor_needs_numpy_and_scipy_only(tmp_path: Path) -> None:
    assert ran(sys.executable, "-c", ONLY_NUMPY_AND_SCIPY, where=tmp_path) == "20\n"


def test_the_scikit_learn_example_refits_a_few_models_and_gains_much(tmp_path: Path) -> None:
    printed = ran(sys.executable, "-W", "error", str(EXAMPLES / "scikit_learn_refit.py"), where=tmp_path)
    rows = table(printed)
    refits, loss = rows["LossMonitor"]
    assert refits < 0.2 * rows["every week"][0]
    assert share_of_the_gain(rows) > 0.4
    assert loss < rows["every 8th week"][1]
    promised, seen = (float(found) for found in re.findall(r"([\d.]+)% (?:promised|seen)", printed))
    assert promised == 5.0
    assert 0.0 < seen < 7.0


def peer_python() -> Path:
    """Python of an environment that has what the mlforecast example needs; made once, skips where it cannot be."""
    pins = REQUIREMENTS.read_bytes()
    home = (
        PEERS / f"mlforecast-{sys.version_info.major}.{sys.version_info.minor}-{hashlib.sha256(pins).hexdigest()[:8]}"
    )
    python, done = home / "bin" / "python", home / "installed"
    if not done.is_file():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(home)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode != 0:
                told = [line for line in made.stderr.splitlines() if line.startswith("ERROR")] or ["no message"]
                pytest.skip(f"the environment of mlforecast cannot be made: {told[-1]}")
        done.touch()
    return python


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_mlforecast_example_refits_when_the_north_changed_and_not_for_a_wild_week(tmp_path: Path) -> None:
    printed = ran(
        peer_python(), str(EXAMPLES / "mlforecast_refit.py"), where=tmp_path, PYTHONPATH=str(REPOSITORY / "src")
    )
    rows = table(printed)
    assert rows["LossMonitor"][0] <= 5
    assert rows["every week"][0] > 40
    assert share_of_the_gain(rows) > 0.6
    refits = [int(week) for week in re.findall(r"^week (\d+): refit$", printed, re.MULTILINE)]
    assert refits[0] in {20, 21, 22}
    assert "week 20: region=north got worse together" in printed
    assert "week 34: all shops got worse together" in printed
    assert not {34, 35} & set(refits)


def test_the_environment_of_mlforecast_is_pinned_and_names_no_place() -> None:
    pins = [line for line in text_of(REQUIREMENTS).splitlines() if not line.startswith("#")]
    assert {re.split("==", pin)[0] for pin in pins} == {"lightgbm", "mlforecast", "numpy", "pandas", "scipy"}
    assert all(re.fullmatch(r"[a-z]+==[\d.]+", pin) for pin in pins)


def has_row(word: str) -> bool:
    """Whether a table of the page explains a word, alone or together with others."""
    return re.search(rf"^\|[^|]*`{re.escape(word)}`[^|]*\| [^|]+ \|", PAGE, re.MULTILINE) is not None


@pytest.mark.parametrize("kind", [Verdicts, Incident, Certificate])
def test_every_attribute_of_what_a_monitor_says_has_a_row(kind: type) -> None:
    assert [field.name for field in fields(kind) if not has_row(field.name)] == []
    assert has_row("reason")


def test_every_setting_of_a_monitor_has_a_row() -> None:
    assert [name for name in inspect.signature(LossMonitor).parameters if not has_row(name)] == []


def test_every_choice_of_a_setting_is_named() -> None:
    words = [*FleetRule, *LossTestName, *ReferencePolicy, *CertificateStatus]
    assert [word.value for word in words if f"`{word}`" not in PAGE] == []


def test_every_reason_that_a_monitor_gives_has_a_row() -> None:
    given = re.findall(r"Reason\.([A-Z_]+)", inspect.getsource(judge.verdict))
    assert len(set(given)) > 8
    assert [name for name in given if not has_row(Reason[name].value)] == []


def test_every_example_is_linked() -> None:
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file() and f"../examples/{path.name}" not in PAGE] == []

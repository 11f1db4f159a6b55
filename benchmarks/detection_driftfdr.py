"""driftfdr in an environment of its own, for `benchmarks.detection`: made on demand, spoken to through files.

Its dependencies are its own business and stay out of ours. Where it cannot be installed, its rows are left out.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import detection_driftfdr_child as child
from benchmarks.detection_matched import Evidence, peer_losses
from benchmarks.detection_samples import Sample

VERSION = "0.1.1"
DEFAULT_DIRECTORY = Path(__file__).resolve().parent.parent / ".venv-peers"
N_BOOT = 500
"""Bootstrap replicates of a calibration; 2,000 by default. Its level is matched here by the knob, not by them, and
with 2,000 calibration alone takes three to six times as long (`detection_speed` times it with its defaults)."""


class UnavailableError(Exception):
    """driftfdr cannot be had; the message says why."""


def interpreter(directory: Path = DEFAULT_DIRECTORY) -> Path:
    """Python of an environment that has driftfdr; made when it is missing.

    Parameters
    ----------
    directory
        Where environments of peers are kept.

    Raises
    ------
    UnavailableError
        The environment cannot be made, or driftfdr cannot be installed into it.
    """
    home = directory / f"driftfdr-{VERSION}"
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = home / "installed"
    if done.is_file() and python.is_file():
        return python
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text("*\n")
        _checked([sys.executable, "-m", "venv", "--clear", str(home)])
        _checked([str(python), "-m", "pip", "install", "--quiet", f"driftfdr=={VERSION}"])
        done.write_text(f"{VERSION}\n")
    except OSError as error:
        raise UnavailableError(f"{home}: {error}") from error
    return python


def _checked(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:] or ["no message"]
        raise UnavailableError(f"{' '.join(command[1:5])}: {last[0]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """driftfdr at work on one sample in a process of its own."""

    process: subprocess.Popen[bytes]
    directory: Path
    streams: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def evidence(self) -> dict[str, Evidence]:
        """Wait, and return the evidence of each of its detectors.

        Raises
        ------
        UnavailableError
            The process failed.
        """
        message = self.process.communicate()[1]
        if self.process.returncode != 0:
            last = message.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise UnavailableError(f"driftfdr failed: {last[0]}")
        with np.load(self.directory / child.ANSWER) as answer:
            return {
                name: Evidence(
                    calibration=answer[f"{name}|{child.CALIBRATION}"],
                    by_drift={
                        key.partition("|")[2]: answer[key]
                        for key in answer.files
                        if key.startswith(f"{name}|") and not key.endswith(f"|{child.CALIBRATION}")
                    },
                    streams=self.streams,
                )
                for name in child.DETECTORS
            }


def start(python: Path, sample: Sample, directory: Path) -> Job:
    """Start driftfdr on a sample's calibration streams and drifted streams; its files go into the directory."""
    calibration, drifted, streams = peer_losses(sample, "driftfdr")
    home = Path(tempfile.mkdtemp(dir=directory))
    settings = {"n_ref": sample.warm_up * calibration.shape[2], "window": calibration.shape[2], "n_boot": N_BOOT}
    np.savez(
        home / child.QUESTION,
        **{name: np.array(value) for name, value in settings.items()},
        **{f"losses|{child.CALIBRATION}": calibration.reshape(len(calibration), -1)},
        **{f"losses|{name}": losses.reshape(len(losses), -1) for name, losses in drifted.items()},
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(python), child.__file__, str(home)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return Job(process=process, directory=home, streams=streams)

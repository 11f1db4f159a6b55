"""The proof that a candidate must give: better than the champion on the same held-out recent targets."""

from dataclasses import dataclass

import numpy as np

from mlma.core.blocks import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Outcome of a comparison; losses are means over the ``n`` targets that both have."""

    better: bool
    n: int
    candidate_loss: float
    champion_loss: float

    @property
    def gain(self) -> float:
        """Share of the champion's loss that the candidate saves; negative when it is worse, NaN without targets."""
        if not self.n:
            return float("nan")
        if not self.champion_loss:
            return 0.0 if not self.candidate_loss else float("-inf")
        return 1.0 - self.candidate_loss / self.champion_loss

    def __str__(self) -> str:
        if not self.n:
            return "no held-out target has an outcome and both forecasts"
        return (
            f"candidate {self.candidate_loss:.4g} against champion {self.champion_loss:.4g} "
            f"on {self.n} held-out targets ({-self.gain:+.1%})"
        )


def prove(candidate_losses: Floats, champion_losses: Floats, *, floor: float) -> Proof:
    """Compare losses on the same targets, shape (n,); NaN marks a missing one.

    A candidate without a finite loss where the champion has one is not better, whatever the rest says: leaving
    the hard targets out is no proof.

    Parameters
    ----------
    candidate_losses, champion_losses
        Shape (n,), of targets that the candidate was not trained on.
    floor
        Relative gain that the candidate must exceed.

    Examples
    --------
    >>> prove(np.array([1.0, 2.0]), np.array([2.0, 2.0]), floor=0.0).better
    True
    """
    both = np.isfinite(candidate_losses) & np.isfinite(champion_losses)
    n = int(both.sum())
    if not n:
        return Proof(better=False, n=0, candidate_loss=float("nan"), champion_loss=float("nan"))
    complete = not np.any(np.isfinite(champion_losses) & ~np.isfinite(candidate_losses))
    proof = Proof(
        better=False,
        n=n,
        candidate_loss=float(candidate_losses[both].mean()),
        champion_loss=float(champion_losses[both].mean()),
    )
    return Proof(
        better=complete and proof.gain > floor,
        n=n,
        candidate_loss=proof.candidate_loss,
        champion_loss=proof.champion_loss,
    )

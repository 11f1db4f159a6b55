"""What a digest says about the pools: who carries the forecasts, and what a training costs, on one line."""

import math

from mlma.core.digest_parts import DigestInputs


def pool_line(inputs: DigestInputs) -> str:
    """Median weights of the evergreen members, the trained versions and the models of groups; CPU seconds a training.

    Where one version serves alone, the weights say nothing: then the versions that forecast are counted.
    """
    pool = inputs.pool
    if pool is None:
        return f"nothing recorded{_each(inputs)}"
    if pool.is_blend:
        groups = "" if math.isnan(pool.groups_share) else f", groups {_share(pool.groups_share)}"
        return (
            f"evergreens {_share(pool.evergreen_share)}, versions {_share(pool.versions_share)}{groups} (medians)"
            f"{_each(inputs)}"
        )
    return f"one version serves, {pool.n_in_use:,} in use{_each(inputs)}"


def _share(share: float) -> str:
    return "nothing" if math.isnan(share) else f"{100 * share:.0f} %"


def _each(inputs: DigestInputs) -> str:
    if not inputs.n_trainings:
        return ""
    cost = inputs.fit_cpu_s / inputs.n_trainings
    return f"; {f'{cost:,.0f}' if cost >= 10 else f'{cost:.2g}'} CPU-s a training"

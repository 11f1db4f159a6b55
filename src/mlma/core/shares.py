"""Rates in the words of a page: false-alarm rates, power, intervals. Changes of a loss are said elsewhere."""

import math


def rate(share: float) -> str:
    """Share in per cent without the sign, three digits, ``-`` when there is none.

    Examples
    --------
    >>> rate(0.0463), rate(0.0025), rate(1.0), rate(float("nan"))
    ('4.63', '0.25', '100', '-')
    """
    if math.isnan(share):
        return "-"
    return f"{100 * share:.3g}" if share >= 0.01 else f"{100 * share:.2g}"


def percentage(share: float) -> str:
    """Share with its sign of per cent, ``-`` when there is none.

    Examples
    --------
    >>> percentage(0.05), percentage(float("nan"))
    ('5 %', '-')
    """
    return "-" if math.isnan(share) else f"{rate(share)} %"


def interval(low: float, high: float) -> str:
    """Interval of a share in per cent, empty when there is none.

    Examples
    --------
    >>> interval(0.0412, 0.0521), interval(float("nan"), float("nan"))
    ('[4.12, 5.21]', '')
    """
    return "" if math.isnan(low) or math.isnan(high) else f"[{rate(low)}, {rate(high)}]"

"""How far a method's confidence is from its accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error of (n,) answers (Guo et al., ICML 2017): bins of equal width, open on the left.

    The sum over the bins of |B|/n times |accuracy - mean confidence|.
    """
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if confidence.shape != correct.shape or confidence.ndim != 1 or not len(confidence):
        raise ValueError(f"two vectors of the same images, not {confidence.shape} and {correct.shape}")
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    return float(np.abs(np.bincount(place, correct - confidence, bins)).sum() / len(confidence))

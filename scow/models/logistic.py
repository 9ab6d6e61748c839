"""L2-regularised logistic regression, for dense and sparse features alike.

Minimised is ``sum_i log-loss_i + sum_j penalty_j * w_j^2 / (2 C)`` over the weights and a free intercept, with L-BFGS
in float64: deterministic, and quick even for thousands of sparse columns. Columns of a dense block are standardised
first (`Standardised`), so that one C means the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, log1p

SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True)
class Standardised:
    """Mean and standard deviation of dense columns, of the data that a model is fitted to.

    Attributes
    ----------
    mean, scale : ndarray, shape (p,)
        The scale of a constant column is 1.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Standardised:
        """Measure the columns of `features`, shape (n, p)."""
        spread = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(spread < SMALLEST_SPREAD, 1.0, spread))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """The columns at zero mean and unit variance, a new array."""
        standardised: np.ndarray = (features - self.mean) / self.scale
        return standardised


def fit_logistic(
    features: np.ndarray | csr_matrix, labels: np.ndarray, c: float, penalty: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Weights and intercept of the logistic model.

    Parameters
    ----------
    features : ndarray or csr_matrix, shape (n, p)
    labels : ndarray, shape (n,)
        0 or 1, or the share of several observations.
    c : float
        Inverse strength of the regularisation.
    penalty : ndarray, shape (p,), optional
        Relative penalty per column; 1 by default.

    Returns
    -------
    weights : ndarray, shape (p,)
    intercept : float
    """
    n_columns = features.shape[1]
    strength = (np.ones(n_columns) if penalty is None else penalty) / c

    def loss_and_slope(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, intercept = parameters[:-1], parameters[-1]
        logits = features @ weights + intercept
        # log(1 + e^z) - y z, without overflow
        loss = np.sum(np.maximum(logits, 0) + log1p(np.exp(-np.abs(logits))) - labels * logits)
        error = expit(logits) - labels
        slope = np.append(features.T @ error + strength * weights, error.sum())
        return float(loss + 0.5 * np.sum(strength * weights**2)), slope

    found = minimize(
        loss_and_slope,
        np.zeros(n_columns + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxcor": 30, "ftol": 1e-13, "gtol": 1e-4},
    )
    return found.x[:-1], float(found.x[-1])

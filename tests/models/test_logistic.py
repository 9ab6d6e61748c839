"""scow.models.logistic against Newton's method written out here, and against cases known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from scow.models.logistic import Standardised, fit_logistic

# L-BFGS stops where no slope is above 1e-4; with penalties of 1/C from 0.5 on, as here, a weight is then known to
# about 1e-4 / 0.5, and mostly far better. A wrong penalty, or a penalised intercept, changes weights by more than 1e-2.
CLOSE = 3e-4


def newton(features: np.ndarray, labels: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, float]:
    """Minimum of the penalised log-loss, to machine precision; the intercept is the last parameter, and free."""
    design = np.column_stack([features, np.ones(len(features))])
    strength = np.append(penalty, 0.0)
    parameters = np.zeros(design.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-design @ parameters))
        slope = design.T @ (p - labels) + strength * parameters
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(strength)
        step = np.linalg.solve(curvature, slope)
        parameters = parameters - step
        if np.abs(step).max() < 1e-13:
            break
    assert np.abs(slope).max() < 1e-9
    return parameters[:-1], float(parameters[-1])


def problem(seed: int, n: int = 200, p: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, p))
    logits = features @ rng.normal(size=p) * 1.5 + 0.7
    return features, (rng.random(n) < 1 / (1 + np.exp(-logits))).astype(np.float64)


@pytest.mark.parametrize("c", [0.01, 0.3, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_weights_are_newtons(seed, c):
    features, labels = problem(seed)
    weights, intercept = fit_logistic(features, labels, c)
    expected, expected_intercept = newton(features, labels, np.full(6, 1 / c))
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(weights, expected, rtol=0, atol=CLOSE)
    assert intercept == pytest.approx(expected_intercept, abs=CLOSE)


def test_penalty_of_each_column():
    features, labels = problem(2)
    penalty = np.array([1.0, 0.25, 4.0, 0.25, 1.0, 30.0])
    weights, intercept = fit_logistic(features, labels, 0.05, penalty)
    expected, expected_intercept = newton(features, labels, penalty / 0.05)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=CLOSE)
    assert intercept == pytest.approx(expected_intercept, abs=CLOSE)
    equal, _ = fit_logistic(features, labels, 0.05)
    assert np.abs(equal - weights).max() > 100 * CLOSE


def test_sparse_is_dense():
    rng = np.random.default_rng(3)
    features = (rng.random((300, 20)) < 0.15) * rng.integers(1, 3, (300, 20)).astype(np.float64)
    labels = (features[:, 0] + rng.random(300) > 0.6).astype(np.float64)
    dense, sparse = fit_logistic(features, labels, 0.5), fit_logistic(csr_matrix(features), labels, 0.5)
    np.testing.assert_allclose(sparse[0], dense[0], rtol=0, atol=CLOSE)
    assert sparse[1] == pytest.approx(dense[1], abs=CLOSE)
    np.testing.assert_allclose(sparse[0], newton(features, labels, np.full(20, 2.0))[0], rtol=0, atol=CLOSE)


def test_intercept_is_not_penalised():
    """With no feature that says anything, the intercept is the log-odds of the labels, however strong the penalty."""
    labels = np.array([1.0] * 9 + [0.0])
    weights, intercept = fit_logistic(np.zeros((10, 2)), labels, 1e-6)
    assert weights.tolist() == [0.0, 0.0]
    assert intercept == pytest.approx(np.log(9), abs=1e-3)  # a slope of 1e-4 over a curvature of 10 * 0.9 * 0.1


def test_large_logits_do_not_overflow():
    features = np.array([[-1e4], [-1.0], [1.0], [1e4]])
    with np.errstate(over="raise", invalid="raise"):
        weights, intercept = fit_logistic(features, np.array([0.0, 0.0, 1.0, 1.0]), 1e3)
    assert np.isfinite([*weights, intercept]).all()
    assert weights[0] > 0


def test_same_data_same_bits():
    features, labels = problem(4)
    first, second = fit_logistic(features, labels, 0.1), fit_logistic(features.copy(), labels.copy(), 0.1)
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_standardised():
    features = np.array([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1], [5.0, 5.0, 0.1]])
    before = features.copy()
    standardised = Standardised.of(features)
    assert standardised.mean.tolist() == pytest.approx([3.0, 5.0, 0.1])
    spread = np.sqrt(8 / 3)  # of 1, 3, 5
    assert standardised.scale.tolist() == pytest.approx([spread, 1.0, 1.0])  # a constant column is only centred
    np.testing.assert_allclose(
        standardised(features), [[-2 / spread, 0, 0], [0, 0, 0], [2 / spread, 0, 0]], rtol=0, atol=1e-12
    )
    np.testing.assert_array_equal(features, before)
    np.testing.assert_allclose(standardised(np.array([[4.0, 7.0, 0.1]])), [[1 / spread, 2, 0]], rtol=0, atol=1e-12)

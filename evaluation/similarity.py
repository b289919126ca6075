"""From inner products or vectors to cosines."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def cosines(gram: Matrix) -> Matrix:
    """Cosines from inner products [n, n]; 0 to a vector of length zero."""
    lengths = np.sqrt(np.clip(np.diag(gram), 0, None))
    products = np.outer(lengths, lengths)
    found = np.zeros(gram.shape)
    np.divide(gram, products, out=found, where=products > 0)
    np.fill_diagonal(found, 1.0)
    return found.clip(-1, 1)


def centered(gram: Matrix) -> Matrix:
    """Inner products after the mean of all vectors is subtracted: H G H with H = 1 - 11ᵀ/n.

    They are those of the coordinates on all n - 1 principal components, since these span the
    centered vectors (B. Schölkopf, A. Smola, K.-R. Müller, Nonlinear component analysis as a kernel
    eigenvalue problem, Neural Computation 10, 1998).
    """
    rows = gram.mean(axis=1)
    found: Matrix = gram - rows[:, np.newaxis] - rows + rows.mean()
    return found

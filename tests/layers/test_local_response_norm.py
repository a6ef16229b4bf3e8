import numpy as np
import pytest
import torch

from striate.errors import UsageError
from striate.layers.local_response_norm import LocalResponseNorm


def by_the_formula(maps: np.ndarray, n: int, alpha: float, beta: float, k: float) -> np.ndarray:
    """Section 3.3 written out: b_i = a_i / (k + alpha sum_j a_j^2)^beta, |i - j| <= n / 2."""
    count = maps.shape[1]
    normalised = np.empty_like(maps)
    for i in range(count):
        sums = sum(maps[:, j] ** 2 for j in range(max(0, i - n // 2), min(count - 1, i + n // 2) + 1))
        normalised[:, i] = maps[:, i] / (k + alpha * sums) ** beta
    return normalised


@pytest.mark.parametrize(
    ("n", "alpha", "beta", "k"), [(5, 1e-4, 0.75, 2.0), (3, 0.5, 0.75, 1.0), (1, 2.0, 0.5, 0.0)]
)
@pytest.mark.parametrize("channels", [1, 3, 9])
def test_equals_the_papers_formula(n: int, alpha: float, beta: float, k: float, channels: int) -> None:
    maps = 100 * np.random.default_rng(0).standard_normal((2, channels, 3, 4))
    found = LocalResponseNorm(n, alpha, beta, k)(torch.from_numpy(maps)).numpy()
    np.testing.assert_allclose(found, by_the_formula(maps, n, alpha, beta, k), rtol=1e-12)


def test_alpha_is_not_divided_by_the_number_of_maps() -> None:
    # 4 / (1 + 0.5 * (4^2 + 2^2 + 2^2))^1 = 4 / 13; a mean over 3 maps would give 4 / 5.
    maps = torch.tensor([2.0, 4.0, 2.0]).view(1, 3, 1, 1)
    normalised = LocalResponseNorm(n=3, alpha=0.5, beta=1.0, k=1.0)(maps)
    assert normalised[0, 1].item() == pytest.approx(4 / 13)


def test_constants_of_the_paper_are_the_defaults() -> None:
    norm = LocalResponseNorm()
    assert (norm.n, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 2.0)
    assert list(norm.parameters()) == []


@pytest.mark.parametrize("n", [0, 4])
def test_an_even_number_of_maps_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match="no middle one"):
        LocalResponseNorm(n=n)

import numpy as np
import pytest
import scipy.stats

from jaxmeta.ops import statistics


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 11, 40, 101])
def test_the_iqm_is_scipys_trimmed_mean(rng, n):
    values = rng.standard_cauchy((n, 3))
    expected = scipy.stats.trim_mean(values, 0.25, axis=0)
    np.testing.assert_allclose(statistics.iqm(values, axis=0), expected, rtol=1e-12)
    np.testing.assert_allclose(
        statistics.iqm(values), scipy.stats.trim_mean(values, 0.25, axis=None), rtol=1e-12
    )


def test_cvar_is_the_mean_of_the_lowest_tenth():
    values = np.random.default_rng(0).permutation(np.arange(30.0))
    assert statistics.cvar(values) == pytest.approx((0 + 1 + 2) / 3)


def test_cvar_counts_the_last_value_in_part():
    values = np.asarray([3.0, 1.0, 2.0, 4.0, 5.0])
    assert statistics.cvar(values, 0.3) == pytest.approx((1 + 0.5 * 2) / 1.5)
    assert statistics.cvar(values, 0.99) == pytest.approx((10 + 0.95 * 5) / 4.95)


def test_cvar_goes_from_the_minimum_to_the_mean(rng):
    values = rng.normal(size=(17, 4))
    np.testing.assert_array_equal(statistics.cvar(values, 0.01, axis=0), values.min(axis=0))
    np.testing.assert_allclose(statistics.cvar(values, 1.0, axis=0), values.mean(axis=0))
    fractions = np.linspace(0.01, 1, 50)
    assert np.all(np.diff([statistics.cvar(values, f) for f in fractions]) >= 0)


def test_statistics_reduce_everything_or_one_axis(rng):
    values = rng.normal(size=(8, 5)).astype(np.float32)
    for statistic in (statistics.mean, statistics.iqm, statistics.cvar, statistics.worst):
        assert statistic(values).shape == ()
        by_column = statistic(values, axis=0)
        assert by_column.shape == (5,)
        assert by_column.dtype == np.float64
        np.testing.assert_allclose(by_column[2], statistic(values[:, 2]))


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_cvar_refuses_a_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match=r"fraction is .*above 0 and at most 1"):
        statistics.cvar([1.0], fraction)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="empty"):
        statistics.iqm([])


# Two runs


def test_the_probability_of_improvement_is_the_statistic_of_mann_and_whitney(rng):
    x, y = rng.integers(0, 4, (5, 30)), rng.integers(0, 5, (3, 30))  # with many ties
    wins = statistics.win_table(x, y)
    assert wins.shape == (5, 3, 30)
    expected = scipy.stats.mannwhitneyu(x, y, axis=0).statistic / 15
    np.testing.assert_allclose(wins.mean(axis=(0, 1)), expected)
    np.testing.assert_allclose(wins + statistics.win_table(y, x).swapaxes(0, 1), 1.0)


def test_infinite_returns_win_lose_and_tie_like_others():
    wins = statistics.win_table([[-np.inf, np.inf, -np.inf]], [[-np.inf, 1.0, 0.0]])
    np.testing.assert_array_equal(wins, [[[0.5, 1.0, 0.0]]])


def test_of_nan_no_win_is_known():
    wins = statistics.win_table([[np.nan, 1.0]], [[0.0, np.nan], [0.0, 0.0]])
    np.testing.assert_array_equal(wins, [[[np.nan, np.nan], [np.nan, 1.0]]])


def test_runs_of_other_tasks_cannot_be_paired():
    with pytest.raises(ValueError, match="of equal tasks"):
        statistics.win_table(np.zeros((1, 3)), np.zeros((1, 4)))

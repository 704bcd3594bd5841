import numpy as np
import pytest
import scipy.stats

from jaxmeta import statistics


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
    with pytest.raises(ValueError, match="not empty"):
        statistics.bootstrap_mean(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="seeds, tasks"):
        statistics.standard_error(np.zeros(3))


def test_the_standard_error_of_one_seed_is_the_usual_one(rng):
    values = rng.normal(size=(1, 50, 2))
    expected = scipy.stats.sem(values[0], axis=0)
    np.testing.assert_allclose(statistics.standard_error(values), expected)
    np.testing.assert_allclose(statistics.standard_error(values.swapaxes(0, 1)), expected)


def test_the_standard_error_of_one_value_is_unknown():
    assert np.isnan(statistics.standard_error([[1.0]]))


def _crossed(rng, seeds, tasks, columns, scales):
    """Columns of independent tables with crossed seed and task effects."""
    seed, task, rest = scales
    return (
        seed * rng.normal(size=(seeds, 1, columns))
        + task * rng.normal(size=(1, tasks, columns))
        + rest * rng.normal(size=(seeds, tasks, columns))
    )


@pytest.mark.parametrize("scales", [(1, 0, 1), (0, 1, 1), (1, 3, 2)])
def test_the_standard_error_is_right_for_crossed_seeds_and_tasks(rng, scales):
    values = _crossed(rng, 6, 40, 2000, scales)
    true = values.mean(axis=(0, 1)).std()
    estimate = np.sqrt(np.mean(statistics.standard_error(values) ** 2))
    assert estimate == pytest.approx(true, rel=0.1)


def test_the_standard_error_errs_upwards_where_nothing_but_noise_varies(rng):
    values = _crossed(rng, 6, 40, 2000, (0, 0, 1))
    true = values.mean(axis=(0, 1)).std()
    estimate = np.sqrt(np.mean(statistics.standard_error(values) ** 2))
    assert true < estimate < 1.25 * true


def test_the_bootstrap_of_one_seed_agrees_with_scipy(rng):
    values = rng.exponential(size=60)
    reference = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=1
    ).confidence_interval
    width = reference.high - reference.low
    for interval in (
        statistics.bootstrap_mean(values[None], repetitions=20_000),
        statistics.bootstrap(values[None], np.mean, repetitions=20_000),
    ):
        np.testing.assert_allclose(interval, reference, atol=0.03 * width)


def test_the_bootstrap_of_the_iqm_agrees_with_scipy(rng):
    values = rng.exponential(size=40)
    reference = scipy.stats.bootstrap(
        (values,), statistics.iqm, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    interval = statistics.bootstrap(values[None], statistics.iqm, repetitions=10_000)
    np.testing.assert_allclose(interval, reference, atol=0.03 * (reference.high - reference.low))


@pytest.mark.parametrize("shape", [(1, 30), (4, 25), (3, 1)])
def test_the_two_bootstraps_draw_the_same_seeds_and_tasks(rng, shape):
    values = rng.normal(size=shape)
    np.testing.assert_allclose(
        statistics.bootstrap_mean(values), statistics.bootstrap(values, statistics.mean)
    )


def test_chunks_do_not_change_the_interval(rng, monkeypatch):
    values = rng.normal(size=(3, 21))
    whole = statistics.bootstrap_mean(values), statistics.bootstrap(values, statistics.iqm)
    monkeypatch.setattr(statistics, "_CHUNK_ENTRIES", 500)
    pieces = statistics.bootstrap_mean(values), statistics.bootstrap(values, statistics.iqm)
    np.testing.assert_allclose(whole, pieces, rtol=1e-12)


def test_large_tables_get_fewer_repetitions():
    assert statistics._affordable(2000, 1e9) == 2000
    assert statistics._affordable(2000, 700.5) == 700
    assert statistics._affordable(2000, 1.0) == 300
    assert statistics._affordable(10, 1.0) == 10


def test_trailing_entries_share_the_resampled_tasks(rng):
    values = rng.normal(size=(2, 30, 3))
    low, high = statistics.bootstrap_mean(values)
    assert low.shape == high.shape == (3,)
    for column in range(3):
        one = statistics.bootstrap_mean(values[..., column])
        np.testing.assert_allclose((low[column], high[column]), one)


def test_one_value_has_no_interval():
    assert np.isnan(statistics.bootstrap_mean([[1.0]])).all()
    assert np.isnan(statistics.bootstrap([[1.0]], statistics.iqm)).all()


@pytest.mark.parametrize(
    ("seeds", "tasks", "scales"),
    [(1, 100, (0, 1, 1)), (25, 30, (1, 1, 0.5)), (25, 30, (0, 1, 1)), (40, 10, (2, 0.2, 0.2))],
)
def test_the_interval_covers_the_truth_about_95_times_in_100(rng, seeds, tasks, scales):
    # 4000 tables; the resamples are shared, so a column is a little correlated with another.
    # 92 to 97 %: the percentile bootstrap is narrow by some sqrt((n - 1) / n) and wide where
    # the rest dominates.
    values = _crossed(rng, seeds, tasks, 4000, scales)
    low, high = statistics.bootstrap_mean(values, repetitions=600)
    assert 0.92 < np.mean((low <= 0) & (high >= 0)) < 0.97


def test_ignoring_the_seeds_would_not_cover_the_truth(rng):
    values = _crossed(rng, 25, 30, 1000, (1, 1, 0.5))
    low, high = statistics.bootstrap_mean(values.reshape(1, -1, 1000), repetitions=300)
    assert np.mean((low <= 0) & (high >= 0)) < 0.6


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


def test_what_diverged_has_no_difference_and_no_interval_and_warns_of_nothing():
    losses = np.array([[np.inf, np.inf, 1.0], [2.0, np.nan, 3.0]])
    differences = statistics.difference_table(losses, losses[:1])
    np.testing.assert_array_equal(np.isfinite(differences[:, 0]), [[0, 0, 1], [0, 0, 1]])
    assert np.isnan(statistics.bootstrap_mean(losses)).all()


@pytest.mark.parametrize("table", [statistics.win_table, statistics.difference_table])
def test_a_bootstrap_of_pairs_draws_the_seeds_of_either_and_the_tasks_of_both(rng, table):
    x, y = rng.normal(size=(3, 8)), rng.normal(size=(2, 8))
    means = []
    for _, of_x, of_y, tasks in statistics._resamples((3, 2, 8), 400, 5, 1):
        for seeds, others, drawn in zip(of_x, of_y, tasks, strict=True):
            pairs = [
                table([[x[s, b]]], [[y[z, b]]])[0, 0, 0]
                for s in seeds
                for z in others
                for b in drawn
            ]
            means.append(np.mean(pairs))
    interval = statistics.bootstrap_mean(table(x, y), factors=3, repetitions=400, seed=5)
    np.testing.assert_allclose(interval, np.quantile(means, (0.025, 0.975)), rtol=1e-12)


@pytest.mark.parametrize("paired", [True, False])
def test_a_bootstrap_of_differences_agrees_with_scipy(rng, paired):
    x, y = rng.exponential(size=40), rng.exponential(size=40) + 0.5
    reference = scipy.stats.bootstrap(
        (x, y),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=paired,
        method="percentile",
        n_resamples=20_000,
        rng=1,
    ).confidence_interval
    # Of one seed each, tasks are resampled, which are paired; of one task, seeds, which are not.
    x, y = (x[None], y[None]) if paired else (x[:, None], y[:, None])
    difference = statistics.difference_table(x, y)
    interval = statistics.bootstrap_mean(difference, factors=3, repetitions=20_000)
    np.testing.assert_allclose(interval, reference, atol=0.03 * (reference.high - reference.low))


def _two_runs(rng, seeds, tasks, columns, scales, gap=0.5):
    """Tables of two runs with tasks in common, the first better by ``gap``."""
    of_seed, of_task, rest = scales
    task = of_task * rng.normal(size=(1, tasks, columns))
    x, y = (_crossed(rng, n, tasks, columns, (of_seed, 0, rest)) + task for n in seeds)
    return x + gap, y


@pytest.mark.parametrize(
    ("seeds", "tasks", "scales"),
    [((1, 1), 100, (0, 3, 1)), ((14, 10), 25, (1, 3, 0.5)), ((12, 12), 25, (1, 0, 1))],
)
def test_the_intervals_of_two_runs_cover_the_truth_about_95_times_in_100(rng, seeds, tasks, scales):
    gap, columns = 0.5, 800
    x, y = _two_runs(rng, seeds, tasks, columns, scales, gap)
    spread = np.hypot(scales[0], scales[2]) * 2**0.5
    for table, truth in (
        (statistics.difference_table, gap),
        (statistics.win_table, scipy.stats.norm.cdf(gap / spread)),
    ):
        values = np.stack([table(x[..., c], y[..., c]) for c in range(columns)], axis=-1)
        low, high = statistics.bootstrap_mean(values, factors=3, repetitions=300)
        # Few seeds make it narrow; it would be wide if hardly anything but the rest varied.
        assert 0.9 < np.mean((low <= truth) & (truth <= high)) < 0.98


def test_pairing_over_tasks_takes_out_what_makes_a_task_hard_for_both(rng):
    x, y = _two_runs(rng, (5, 5), 60, 1, (0, 10, 1))
    x, y = x[..., 0], y[..., 0]
    low, high = statistics.bootstrap_mean(statistics.difference_table(x, y), factors=3)
    apart = statistics.bootstrap_mean(x)
    assert high - low < 0.2 * (apart[1] - apart[0])


def test_ignoring_the_seeds_of_two_runs_would_not_cover_the_truth(rng):
    columns = 400
    x, y = _two_runs(rng, (12, 12), 30, columns, (1, 1, 0.3))
    values = [statistics.difference_table(x[..., c], y[..., c]) for c in range(columns)]
    pooled = np.stack(values, axis=-1).reshape(1, -1, columns)
    low, high = statistics.bootstrap_mean(pooled, repetitions=300)
    assert np.mean((low <= 0.5) & (high >= 0.5)) < 0.5


def test_runs_of_other_tasks_cannot_be_paired():
    with pytest.raises(ValueError, match="of equal tasks"):
        statistics.win_table(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="3 factors"):
        statistics.bootstrap_mean(np.zeros((1, 3)), factors=3)
    assert np.isnan(statistics.bootstrap_mean(np.ones((1, 1, 1)), factors=3)).all()

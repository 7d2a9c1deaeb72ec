"""Power laws: what is planted is found, limits hold as often as they say, and what is no law is told."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.analysis.power_law import Interval, fit_power_law

SIZES = (100, 200, 400, 800, 1600, 3200)
FLOOR, SCALE, EXPONENT = 0.9, 3.0, 0.5


def law(n, exponent=EXPONENT):
    return FLOOR + SCALE * np.asarray(n, dtype=float) ** -exponent


def drawn(seed, *, seeds=5, noise=0.02, sizes=SIZES):
    """Losses around the planted law, whose noise falls with the root of n."""
    random = np.random.default_rng(seed)
    return {n: law(n) + noise * (n / 100) ** -0.5 * random.normal(size=seeds) for n in sizes}


def of_one_pool(seed, n_pool=3200):
    """Losses that differ by the prompts that are drawn from one pool."""
    random = np.random.default_rng(seed)
    kinds = 0.3 * random.normal(size=n_pool)
    return {n: [law(n) + kinds[random.choice(n_pool, n, replace=False)].mean() for _ in range(5)] for n in SIZES}


def holds(interval: Interval, value: float) -> bool:
    return (interval.low is None or interval.low <= value + 1e-9) and (
        interval.high is None or interval.high >= value - 1e-9
    )


def test_a_law_without_noise_is_found_exactly():
    found = fit_power_law({n: [law(n), law(n)] for n in SIZES})
    assert found.exponent.value == EXPONENT
    assert found.floor.value == pytest.approx(FLOOR, abs=1e-6)
    assert found.scale == pytest.approx(SCALE, abs=1e-4)
    assert found.at(32_000).value == pytest.approx(law(32_000), abs=1e-6)
    assert found.gain().value == pytest.approx(law(3200) - law(32_000), abs=1e-6)
    np.testing.assert_allclose(found.curve(np.array([150.0, 9000.0])), law([150, 9000]), atol=1e-6)
    assert found.warnings == ()


@pytest.mark.long
@pytest.mark.parametrize(
    ("draw", "pool"),
    [(drawn, None), (lambda seed: drawn(seed, seeds=1), None), (of_one_pool, 3200)],
    ids=["five seeds", "one seed", "one pool"],
)
def test_limits_hold_in_95_of_100_studies(draw, pool):
    """300 studies: 0.95 within three standard errors of such a share, 0.013."""
    hits = []
    for seed in range(300):
        found = fit_power_law(draw(seed), pool=pool)
        truth = {"exponent": EXPONENT, "floor": FLOOR}
        inside = [holds(getattr(found, name), value) for name, value in truth.items()]
        inside.append(holds(found.at(32_000), law(32_000)))
        inside.append(holds(found.gain(), law(3200) - law(32_000)))
        hits.append(inside)
    shares = np.mean(hits, axis=0)
    assert shares.min() >= 0.91, shares
    assert shares.max() <= 0.99, shares


def test_a_lower_level_gives_narrower_limits_that_hold_as_often_as_they_say():
    hits = []
    for seed in range(200):
        wide, narrow = (fit_power_law(drawn(seed), level=level).exponent for level in (0.95, 0.8))
        assert wide.low is None or (narrow.low is not None and wide.low <= narrow.low)
        hits.append(holds(narrow, EXPONENT))
    assert 0.72 <= np.mean(hits) <= 0.88


def test_a_good_law_is_rarely_doubted():
    assert np.mean([bool(fit_power_law(drawn(seed)).warnings) for seed in range(200)]) <= 0.06


def test_noise_is_no_law():
    random = np.random.default_rng(0)
    said = [fit_power_law({n: 1 + 0.01 * random.normal(size=5) for n in SIZES}).warnings for _ in range(100)]
    assert np.mean(["there is no law" in " ".join(texts) for texts in said]) >= 0.94


def test_a_rising_loss_is_told_with_the_sizes():
    losses = drawn(0) | {800: np.full(5, 1.1) + 1e-4 * np.arange(5)}
    assert "the loss rises from 400 to 800 prompts" in fit_power_law(losses).warnings


def test_other_bends_are_told():
    step = {n: [(1.2 if n < 500 else 1.0) + 1e-3 * k for k in range(5)] for n in SIZES}
    assert any("bend otherwise" in text for text in fit_power_law(step).warnings)


def test_a_straight_line_over_the_logarithm_has_no_floor_and_says_so():
    random = np.random.default_rng(1)
    found = fit_power_law({n: 1.5 - 0.05 * np.log(n) + 2e-3 * random.normal(size=5) for n in SIZES})
    assert abs(found.exponent.value) < 0.1
    assert holds(found.exponent, 0.0)
    assert found.floor.low is None
    assert any("an exponent of 0 is possible" in text for text in found.warnings)
    assert found.at(32_000).value == pytest.approx(1.5 - 0.05 * np.log(32_000), abs=0.02)


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        (drawn(0, sizes=(100, 400, 1600)), "3 sizes are too few to check a law of three parameters; study 5 or more"),
        (drawn(0, sizes=(100, 200, 300, 400, 500)), "the sizes differ by less than a factor of ten"),
        (drawn(0, seeds=1), "with one seed, the limits rest on how far the points are from the law"),
    ],
)
def test_thin_studies_are_told(losses, text):
    assert any(text in said for said in fit_power_law(losses).warnings)


def test_three_single_losses_give_a_law_and_no_limits():
    found = fit_power_law({n: [law(n)] for n in (100, 400, 1600)})
    assert found.exponent.value == EXPONENT
    assert vars(found.exponent) == {"value": EXPONENT, "low": None, "high": None}
    assert found.to_dict()["gain"]["low"] is None

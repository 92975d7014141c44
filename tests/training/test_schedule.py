"""Learning-rate schedules against numbers worked by hand."""

import math

import pytest

from refseg.config import from_dict
from refseg.errors import ConfigError
from refseg.training.schedule import ScheduleConfig, lr_factor


def factors(config, steps):
    return [lr_factor(config, step, steps) for step in range(steps)]


def test_published_steps_of_rela():
    config = ScheduleConfig(kind="step", milestones=(110_000, 140_000), drop=0.1)
    values = [lr_factor(config, step, 150_000) for step in (0, 109_999, 110_000, 139_999, 140_000, 149_999)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_poly_falls_to_its_end():
    config = ScheduleConfig(kind="poly", power=0.9, min_lr_ratio=0.2)
    assert factors(config, 4) == pytest.approx([0.2 + 0.8 * (1 - n / 4) ** 0.9 for n in range(4)])
    assert lr_factor(config, 4, 4) == pytest.approx(0.2)


def test_cosine_after_a_linear_warm_up():
    config = ScheduleConfig(kind="cosine", warmup_steps=4, warmup_start=0.2)
    assert factors(config, 12)[:5] == pytest.approx([0.36, 0.52, 0.68, 0.84, 1.0])
    assert lr_factor(config, 8, 12) == pytest.approx(0.5)
    assert lr_factor(config, 6, 12) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


def test_constant_with_warm_up_factor_one_is_no_warm_up():
    assert factors(ScheduleConfig(kind="constant", warmup_steps=10, warmup_start=1.0), 20) == [1.0] * 20


@pytest.mark.parametrize(
    "fields",
    [
        {"warmup_steps": -1},
        {"min_lr_ratio": 1.5},
        {"warmup_start": -0.1},
        {"milestones": (5, 3)},
        {"drop": 0.0},
        {"power": 0.0},
    ],
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ConfigError, match=rf"^schedule\.{next(iter(fields))}\b"):
        from_dict(ScheduleConfig, fields, "schedule")

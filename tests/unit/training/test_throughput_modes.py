"""Each mode of bench.gpu.training_throughput is a configuration of its stage."""

from pathlib import Path

import pytest

from bench.gpu.training_throughput import KINDS, LARGE, MODES, TINY, WARM_UP, Setting, configured, rates


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("setting", [*TINY, *LARGE], ids=lambda setting: setting.name)
def test_a_mode_is_a_configuration_of_its_stage(mode: str, setting: Setting, tmp_path: Path) -> None:
    config = configured(tmp_path, setting, mode, steps=3)
    assert isinstance(config, KINDS[MODES[mode][0]][0])
    assert config.optim.max_steps == WARM_UP + 3


def test_a_rate_is_of_the_steps_after_the_warm_up() -> None:
    history = [{"tokens": 100 * step, "seconds": step if step > WARM_UP else 9 * step} for step in range(1, 6)]
    assert list(rates(history))[1:] == [100, 100]

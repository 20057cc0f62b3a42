"""Every shipped configuration loads as its stage; a mistake names file, field and what is allowed."""

import tomllib
from pathlib import Path

import pytest

from training.config import Stage, load
from training.corpus.make import CorpusConfig
from training.dpo import DpoConfig
from training.exceptions import ConfigError
from training.grpo import GrpoConfig
from training.init_checkpoint import InitConfig
from training.mocae.stage import MocaeConfig
from training.runs.extract_adapter import AdapterConfig
from training.sft import SftConfig
from training.synthesis.options import Synthesis
from training.tokenizer import TokenizerConfig
from training.verl.make_parquet import ParquetConfig

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / "training" / "configs"
KINDS = {
    "mocae": MocaeConfig,
    "adapter": AdapterConfig,
    "sft": SftConfig,
    "dpo": DpoConfig,
    "grpo": GrpoConfig,
    "corpus": CorpusConfig,
    "tokenizer": TokenizerConfig,
    "synthesize": Synthesis,
    "init_checkpoint": InitConfig,
    "verl_parquet": ParquetConfig,
}
SHIPPED = sorted(CONFIGS.rglob("*.toml"))
NANO = CONFIGS / "nano" / "dpo_ica.toml"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_configuration_loads_as_its_stage(path: Path):
    stage = tomllib.loads(path.read_text()).get("stage", path.stem)
    loaded = load(path, KINDS[stage])
    assert getattr(loaded, "stage", stage) == stage
    if isinstance(loaded, Stage) and loaded.run.deepspeed:
        assert (ROOT / loaded.run.deepspeed).exists()


@pytest.mark.parametrize(
    ("name", "gpus", "rate", "batch", "epochs", "length"),
    [
        ("alignxplore_cold_start", 8, 2e-5, 128, 2, 16384),
        ("alignxplore_cold_start_streaming", 8, 2e-5, 128, 2, 16384),
        ("alignxplus_sft", 8, 2e-5, 16 * 8, 4, 16384),
    ],
)
def test_full_sft_has_the_published_settings(name: str, gpus: int, rate: float, batch: int, epochs: int, length: int):
    config = load(CONFIGS / "full" / f"{name}.toml", SftConfig)
    optim = config.optim
    assert (optim.learning_rate, optim.batch, optim.epochs, config.sft.max_length) == (rate, batch, epochs, length)
    assert (optim.schedule, optim.warmup, config.sft.completion_only) == ("cosine", 0.1, True)
    assert optim.accumulation(gpus) * optim.micro_batch * gpus == batch


@pytest.mark.parametrize("mode", ["ica", "pba"])
def test_full_dpo_has_the_published_settings(mode: str):
    config = load(CONFIGS / "full" / f"alignxpert_{mode}.toml", DpoConfig)
    optim, dpo = config.optim, config.dpo
    assert (optim.learning_rate, optim.min_rate, optim.warmup, optim.batch) == (5e-7, 0.1, 0.1, 128)
    assert (optim.beta1, optim.beta2, optim.weight_decay, optim.max_grad_norm) == (0.9, 0.95, 0, 1)
    assert (optim.epochs, dpo.beta, dpo.max_length, dpo.mode) == (1, 0.1, 8192, mode)
    assert config.model.dtype == "float32"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("dpo.mode=icl", "dpo.mode: Input should be 'ica', 'pba', 'pairs' or 'pairs-pba' (it is 'icl')"),
        ("dpo.betta=1", "dpo.betta: unknown field; allowed here: mode, beta,"),
        ("optim.learning_rate=-1", "optim.learning_rate: Input should be greater than 0 (it is -1)"),
        ("optim.batch=7", "optim: batch 7 is no multiple of micro_batch 8"),
        ("run.fsdp=maybe", "run.fsdp: Input should be a valid boolean"),
        ("model.dtype=float16", "model.dtype: Input should be 'float32' or 'bfloat16' (it is 'float16')"),
        ("stage=sft", "stage: Input should be 'dpo'"),
    ],
)
def test_a_mistake_names_file_field_and_what_is_allowed(override: str, told: str):
    with pytest.raises(ConfigError) as error:
        load(NANO, DpoConfig, [override])
    assert str(error.value).startswith(f"{NANO}: ")
    assert told in str(error.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ConfigError) as error:
        load(NANO, DpoConfig, ["dpo.mode=icl", "optim.epochs=0"])
    assert len(str(error.value).splitlines()) == 2


def test_a_missing_field_and_a_missing_file_are_named(tmp_path: Path):
    path = tmp_path / "empty.toml"
    path.write_text('stage = "sft"')
    with pytest.raises(ConfigError, match=r"empty.toml: model: Field required"):
        load(path, SftConfig)
    with pytest.raises(ConfigError, match=r"gone.toml: cannot be read"):
        load(tmp_path / "gone.toml", SftConfig)


def test_a_small_rate_needs_full_precision():
    small = ["model.dtype=bfloat16", "optim.learning_rate=5e-5"]
    with pytest.raises(ConfigError, match=r"in bfloat16 a learning rate below 0\.0001 leaves most"):
        load(NANO, DpoConfig, small)
    adapters = load(NANO, DpoConfig, [*small, "model.lora.rank=4"])
    masters = load(CONFIGS / "full" / "alignxpert_ica.toml", DpoConfig, ["model.dtype=bfloat16"])
    assert (adapters.model.dtype, masters.model.dtype) == ("bfloat16", "bfloat16")


def test_an_override_sets_a_field():
    config = load(NANO, DpoConfig, ["optim.max_steps=3", "data.train=['a', 'b']", "model.lora.rank=4"])
    assert config.optim.max_steps == 3
    assert config.data.train == (Path("a"), Path("b"))
    assert config.model.lora is not None
    assert config.model.lora.rank == 4

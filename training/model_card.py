"""The model card of a checkpoint: base, data, settings, libraries, and how to load it."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from training.config import Stage

LIBRARIES: Final = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed")
STAGES: Final = {
    "sft": "Supervised fine-tuning: writes preference summaries of users as the rows' teacher does.",
    "dpo": "Direct preference optimization: answers as the user whose history it is shown prefers.",
    "grpo": "Reinforcement learning: writes summaries from which a judge predicts the user's choices.",
}
CARD: Final = """\
# {name}

{about}

- stage: `{stage}`
- base: `{base}`{lora}
- data: {rows:,} rows of {data}
- steps: {steps:,}, {tokens:,} tokens in {seconds:,.0f} s
- seed: {seed}
{figures}
## Hyper-parameters

{settings}

## Loading

With transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{output}")
model = AutoModelForCausalLM.from_pretrained("{output}")
```

With vLLM, as the engine of the suite:

```sh
vllm serve {output} --served-model-name {name}
```

## Made with

{libraries}
"""


def render_card(config: Stage, metrics: Mapping[str, Any]) -> str:
    """Markdown for a finished run with these metrics (training/progress.py)."""
    figures = metrics["history"][-1] if metrics["history"] else {}
    figures = {name: value for name, value in figures.items() if name not in ("step", "tokens", "seconds")}
    lora = config.model.lora
    return CARD.format(
        name=config.run.output.name,
        about=STAGES.get(config.stage, ""),
        stage=config.stage,
        base=config.model.path,
        lora=f", LoRA of rank {lora.rank} on {', '.join(lora.targets)}" if lora else "",
        rows=metrics["rows"],
        data=", ".join(f"`{path}`" for path in config.data.train),
        steps=metrics["steps"],
        tokens=metrics["tokens"],
        seconds=metrics["seconds"],
        seed=config.run.seed,
        figures="".join(f"- last {name}: {value:.4g}\n" for name, value in figures.items()),
        settings=_table(config),
        output=config.run.output,
        libraries=_libraries(),
    )


def _table(config: Stage) -> str:
    lines = ["| field | value |", "|---|---|"]
    for section, values in config.model_dump(mode="json").items():
        if isinstance(values, dict) and section not in ("model", "data"):
            lines += [f"| `{section}.{name}` | `{value}` |" for name, value in values.items() if value is not None]
    return "\n".join(lines)


def _libraries() -> str:
    return "\n".join([f"- Python {platform.python_version()}", *(f"- {name} {_version(name)}" for name in LIBRARIES)])


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"

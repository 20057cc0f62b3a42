"""The end of a stage: saves the weights first, then metrics and model card.

Once the finished checkpoint is on the disk, hours of training are safe. If metrics or model card cannot
be written after that, it prints a warning: the checkpoint loads without them, so the run has succeeded.
"""

import platform
from collections.abc import Mapping
from typing import Any, Final

from training.checkpoint import checkpoint_folders, run_dir, write_card
from training.config import Stage
from training.exceptions import warn_on_failure
from training.libraries import installed_version
from training.progress import collect_metrics, write_metrics

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


def finish(trainer: Any, config: Stage, rows: int) -> dict[str, Any]:
    """Writes the finished checkpoint of a trained model, then metrics and card; returns the metrics.

    The last call of every process of a run. Raises CheckpointError when the disk does not take the weights.
    """
    trainer.save_finished()
    metrics = collect_metrics(config, trainer.state, trainer.progress, rows)
    output = config.run.output
    safe = f"the weights are in {output}"
    if trainer.accelerator.is_main_process:
        with warn_on_failure("writing the metrics", safe):
            write_metrics(run_dir(output), metrics)
        with warn_on_failure("writing the model card", safe):
            folders = checkpoint_folders(output, lora=config.model.lora is not None)
            write_card(render_card(config, metrics), folders)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # else the process exits with open connections to the others
    return metrics


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
    versions = [f"- {name} {installed_version(name) or 'not installed'}" for name in LIBRARIES]
    return "\n".join([f"- Python {platform.python_version()}", *versions])

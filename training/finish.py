"""How a stage ends: the weights first, then what tells of them.

Once the finished checkpoint is on the disk, hours of training are safe. Metrics or a model card that
cannot be written after that are a warning: the checkpoint loads without them, so the run has succeeded.
"""

from typing import Any

from training.checkpoint import folders_of, run_dir, write_card
from training.config import Stage
from training.exceptions import warn_on_failure
from training.model_card import card
from training.progress import Progress, metrics, write


def end(trainer: Any, config: Stage, progress: Progress, rows: int) -> dict[str, Any]:
    """Writes the finished checkpoint of a trained model, then metrics and card; returns the metrics.

    The last act of every process of a run. Raises CheckpointError when the disk does not take the weights.
    """
    trainer.finish(config)
    found = metrics(config, trainer.state, progress, rows)
    output = config.run.output
    safe = f"the weights are in {output}"
    if trainer.accelerator.is_main_process:
        with warn_on_failure("writing the metrics", safe):
            write(run_dir(output), found)
        with warn_on_failure("writing the model card", safe):
            write_card(card(config, found), folders_of(output, lora=config.model.lora is not None))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()  # left open, communication is torn down in the middle of itself
    return found

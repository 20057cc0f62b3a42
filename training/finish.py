"""The end of a stage: saves the weights first, then metrics and model card.

Once the finished checkpoint is on the disk, hours of training are safe. If metrics or model card cannot
be written after that, it prints a warning: the checkpoint loads without them, so the run has succeeded.
"""

from typing import Any

from training.checkpoint import checkpoint_folders, run_dir, write_card
from training.config import Stage
from training.exceptions import warn_on_failure
from training.model_card import render_card
from training.progress import collect_metrics, write_metrics


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

"""Before the first step: whether what a checkpoint holds beside its weights can be written at all.

transformers reads some models that it refuses to save, such as one whose generation_config.json names a
temperature without sampling. Found at the first checkpoint, that would cost every step before it.
"""

import tempfile
from typing import Any

from transformers import TrainerCallback

from training.exceptions import CheckpointError


class Rehearsal(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Writes configurations and tokenizer to a folder of the run that is removed again."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any
    ) -> None:
        """Raises CheckpointError."""
        if not state.is_world_process_zero:
            return
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        try:
            with tempfile.TemporaryDirectory(dir=args.output_dir, prefix=".rehearsal-") as folder:
                base.save_pretrained(folder, state_dict={})
                processing_class.save_pretrained(folder)
        except (OSError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise CheckpointError(f"a checkpoint of {base.name_or_path} cannot be written: {cause}") from error

"""Progress of a run: a printed line every few steps, and at the end `metrics.json` in the run's folder.

`metrics.json` holds {"stage", "config", "history": [{"step", "loss", …}], "rows", "tokens_per_second",
"seconds", "tokens"}. A resumed run adds to seconds and tokens. On a GPU, an entry of the history has "mfu" as well:
the share of the card's arithmetic that was used since the entry before (training/speed/utilization.py).
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from training.config import Stage
from training.data.whole_file import replace_file

METRICS: Final = "metrics.json"
PRINTED: Final = ("loss", "reward", "rewards/accuracies", "learning_rate")
OMITTED: Final = ("epoch", "total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Counts tokens and seconds, prints a line when the trainer logs."""

    def __init__(self) -> None:
        self.mfu: Callable[[float], float] | None = None
        """By tokens/s that the model computes; None where the peak of the device is unknown."""
        self.tokens = 0
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._new_tokens: Any = 0
        self._new_computed: Any = 0

    def count(self, tokens: Any, computed: Any) -> None:
        """Adds a micro-batch: its tokens, and those that the model computes, 0 for no MFU. Both may be tensors: they
        are read when a line is printed, for reading one waits for the GPU."""
        self._new_tokens = self._new_tokens + tokens
        self._new_computed = self._new_computed + computed

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A resumed run continues the counts of its last log entry."""
        last: dict[str, Any] = next((entry for entry in reversed(state.log_history) if "tokens" in entry), {})
        self.tokens, self.seconds = last.get("tokens", 0), last.get("seconds", 0.0)
        self._since = time.perf_counter()

    def totals(self) -> dict[str, float]:
        """The counts so far, and the MFU since they were last asked for."""
        new, computed = int(self._new_tokens), int(self._new_computed)  # waits for the GPU, so before the clock
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        self._new_tokens = self._new_computed = 0
        self.seconds += seconds
        self.tokens += new
        totals: dict[str, float] = {"tokens": self.tokens, "seconds": round(self.seconds, 3)}
        if self.mfu and computed:
            totals["mfu"] = round(self.mfu(computed / seconds), 4)
        return totals

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Adds the totals to the trainer's log history, and prints a line."""
        if not state.log_history or not state.is_world_process_zero:
            return
        entry = state.log_history[-1]
        entry |= self.totals()
        if "loss" not in entry:
            return
        figures = [f"{name.rpartition('/')[2]} {entry[name]:.4g}" for name in PRINTED if name in entry]
        rate = self.tokens / max(self.seconds, 1e-9)
        left = (state.max_steps - state.global_step) * self.seconds / max(state.global_step, 1)
        step = f"{state.global_step}/{state.max_steps}"
        used = f"  MFU {entry['mfu']:.1%}" if "mfu" in entry else ""
        print(f"{step}  {'  '.join(figures)}  {rate:,.0f} tokens/s{used}  {_clock(left)} left", flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def collect_metrics(config: Stage, state: Any, progress: Progress, rows: int) -> dict[str, Any]:
    """The metrics of a finished run, as `metrics.json` holds them."""
    history = [
        {name: value for name, value in entry.items() if name not in OMITTED}
        for entry in state.log_history
        if "loss" in entry
    ]
    return {
        "stage": config.stage,
        "config": config.model_dump(mode="json"),
        "history": history,
        "rows": rows,
        "steps": state.global_step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 3),
        "tokens_per_second": round(progress.tokens / max(progress.seconds, 1e-9), 1),
    }


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes `metrics.json`. If that fails, the file of an earlier run is gone as well."""
    (folder / METRICS).unlink(missing_ok=True)
    with replace_file(folder / METRICS) as file:
        file.write(json.dumps(metrics, indent=1).encode())

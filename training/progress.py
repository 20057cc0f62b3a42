"""What a run tells of itself: a line every few steps, and in the end `metrics.json` in the run's folder.

`metrics.json` holds {"stage", "config", "history": [{"step", "loss", …}], "rows", "tokens_per_second",
"seconds", "tokens"}; evaluation/reporting/training_report.py reads it. Seconds and tokens count over interruptions.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback

from training.config import Stage

METRICS: Final = "metrics.json"
SHOWN: Final = ("loss", "reward", "rewards/accuracies", "learning_rate")
KEPT_OUT: Final = ("epoch", "total_flos", "train_runtime", "train_samples_per_second", "train_steps_per_second")


class Progress(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Counts tokens and seconds, prints a line when the trainer logs."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0
        self._since = time.perf_counter()
        self._steps_before = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After a resumption, the counts go on from what was last logged before it."""
        last: dict[str, Any] = next((entry for entry in reversed(state.log_history) if "tokens" in entry), {})
        self.tokens, self.seconds = last.get("tokens", 0), last.get("seconds", 0.0)
        self._steps_before = state.global_step
        self._since = time.perf_counter()

    def totals(self) -> dict[str, float]:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now
        return {"tokens": self.tokens, "seconds": round(self.seconds, 3)}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Puts the totals into what the trainer keeps, and prints."""
        if not state.log_history or not state.is_world_process_zero:
            return
        entry = state.log_history[-1]
        entry |= self.totals()
        if "loss" not in entry:
            return
        figures = [f"{name.rpartition('/')[2]} {entry[name]:.4g}" for name in SHOWN if name in entry]
        rate = self.tokens / max(self.seconds, 1e-9)
        left = (state.max_steps - state.global_step) * self.seconds / max(state.global_step, 1)
        place = f"{state.global_step}/{state.max_steps}"
        print(f"{place}  {'  '.join(figures)}  {rate:,.0f} tokens/s  {_clock(left)} left", flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def metrics(config: Stage, state: Any, progress: Progress, rows: int) -> dict[str, Any]:
    """What a finished run says of itself."""
    history = [
        {name: value for name, value in entry.items() if name not in KEPT_OUT}
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


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """Puts metrics into the folder of a run. Where that fails, those of an earlier run are gone as well."""
    (folder / METRICS).unlink(missing_ok=True)
    fresh = folder / f"{METRICS}.fresh"
    fresh.write_text(json.dumps(found, indent=1), encoding="utf-8")
    fresh.replace(folder / METRICS)

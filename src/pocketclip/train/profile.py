"""Where a training step's time goes: a table a person can read, and a trace for chrome://tracing or Perfetto."""

from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from pocketclip.files import write_atomically

PHASES = ("data", "image tower", "text tower", "loss", "backward", "optimizer")
"""What the loop, the step and the model mark with `record_function`; the towers' part is their forward pass. Some steps
have `teacher`, too."""
SKIPPED, WARM_UP, MEASURED = 2, 1, 10


def step_profiler(folder: Path, name: str) -> profile:
    """Watches some early steps of a stage, but not the first; writes `NAME.txt` and `NAME-trace.json` to `folder`."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    return profile(
        activities=activities,
        schedule=schedule(skip_first=SKIPPED, wait=0, warmup=WARM_UP, active=MEASURED, repeat=1),
        on_trace_ready=partial(_write, folder, name),
    )


def _write(folder: Path, name: str, finished: profile) -> None:
    events = [event for event in finished.key_averages() if event.key in (*PHASES, "teacher")]
    if not events:
        return  # the stage had too few steps
    num_steps = max(event.count for event in events)
    seconds = dict.fromkeys(PHASES, 0.0)
    for event in events:
        on_device = getattr(event, "device_time_total", 0.0)
        seconds[event.key] = max(event.cpu_time_total, on_device) / 1e6 / num_steps
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.txt", phase_table(seconds))
    finished.export_chrome_trace(str(folder / f"{name}-trace.json"))


def phase_table(seconds: dict[str, float]) -> str:
    """Milliseconds a step and share of each phase, the longest first."""
    total = sum(seconds.values())
    lines = [f"{'phase':<12} {'ms a step':>10} {'share':>7}"]
    for phase, value in sorted(seconds.items(), key=lambda item: -item[1]):
        lines.append(f"{phase:<12} {1000 * value:>10.1f} {value / max(total, 1e-12):>7.1%}")
    lines.append(f"{'together':<12} {1000 * total:>10.1f} {1:>7.1%}")
    return "\n".join(lines) + "\n"

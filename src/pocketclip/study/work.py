"""From planned runs to their ends, whoever carries them out: each is claimed, so that no two processes do the same."""

from collections import deque
from collections.abc import Iterator, Sequence

from pocketclip.stages.watch import Watch
from pocketclip.study.claims import Claims, Failed
from pocketclip.study.jobs import Workers
from pocketclip.study.runs import DIVERGED, PlannedRun

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two looks at what other processes are at."""


def carry_out_all(
    planned: Sequence[PlannedRun], claims: Claims, workers: Workers, watch: Watch
) -> Iterator[tuple[PlannedRun, str | None]]:
    """Carry out what no other process does, and wait for what others do.

    Yields:
        Each run once, as it ends here or elsewhere, with what went wrong in one line or None.
    """
    waiting, num_started = deque(planned), 0
    num_passed, pause = 0, SHORTEST_PAUSE
    while waiting or workers.is_busy:
        if waiting and workers.num_free and num_passed < len(waiting):
            run = waiting.popleft()
            if run.is_done:
                yield run, None
                continue
            claim = claims.take(run.key, run.mark)
            if isinstance(claim, Failed):
                yield run, claim.reason
            elif claim is None:
                waiting.append(run)
                num_passed += 1
            elif run.is_done:  # another process finished it between the two looks
                claim.finish()
                yield run, None
            else:
                num_started, num_passed, pause = num_started + 1, 0, SHORTEST_PAUSE
                watch.note(f"run {num_started} of {len(planned)}: {run.name}")
                workers.start(run, claim)
            continue
        for run, claim, problem in workers.ended(None if not waiting else pause):
            if claim.lost.is_set():
                waiting.append(run)
            elif problem is None:
                claim.finish()
                yield run, None
            else:
                claim.fail(problem)
                yield run, problem
        num_passed, pause = 0, min(2 * pause, LONGEST_PAUSE)


def try_failed_again(planned: Sequence[PlannedRun], claims: Claims) -> list[str]:
    """Let runs that failed before be tried again, but for those that diverged; returns the keys of these."""
    diverged = []
    for run in planned:
        failed = claims.failure(run.key)
        if failed is not None and failed.reason.startswith(DIVERGED) and run.folder.is_dir():
            diverged.append(run.name)
        elif failed is not None:
            claims.try_again(run.key)
    return diverged

"""One run of a study: what travels to its process."""

import pickle
from pathlib import Path

from pocketclip.recipe import load_recipe
from pocketclip.study.runs import PlannedRun


def test_a_run_whose_towers_inherit_travels_to_another_process() -> None:
    run = PlannedRun("plain", 1, load_recipe("mobileclip/flickr8k_student_cpu"), Path("out"), "cpu", 0.1)
    assert pickle.loads(pickle.dumps(run)) == run

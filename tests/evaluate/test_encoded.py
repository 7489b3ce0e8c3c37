"""What several tasks ask of the same images comes of one pass of each tower."""

from typing import Any

import numpy as np
import pytest

from pocketclip.asked.bundle import PretrainedModel
from pocketclip.data import open_source
from pocketclip.evaluate.encoded import EMBEDDING, TOWER, Encoded
from pocketclip.evaluate.tasks.knn import Knn
from pocketclip.evaluate.tasks.linear_probe import LinearProbe
from pocketclip.features.encode import embed_source
from pocketclip.models.running.runner import Runner
from pocketclip.stages.watch import SILENT


def test_an_embedding_comes_of_the_towers_features_where_both_are_asked(
    tiny_pretrained: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, encode, calls = open_source("scenes:40,image_size=32"), Runner.encode_images, []

    def counting(runner: Runner, *given: Any) -> Any:
        calls.append(given)
        return encode(runner, *given)

    alone = embed_source(tiny_pretrained.for_scores(), source, with_texts=False).images
    monkeypatch.setattr(Runner, "encode_images", counting)
    for tasks in ((Knn(), LinearProbe()), (LinearProbe(), Knn())):
        calls.clear()
        encoded = Encoded()
        for task in tasks:
            encoded.expect(tiny_pretrained, source, task.encoders(tiny_pretrained))
        assert np.array_equal(encoded.images(tiny_pretrained, source, SILENT, EMBEDDING).images, alone)
        assert encoded.images(tiny_pretrained, source, SILENT, TOWER).images.shape[0] == 40
        assert len(calls) == 2  # batches of 32

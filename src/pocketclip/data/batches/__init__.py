"""What a step sees: a plan, captions, views and teachers, put together to batches. All of it needs torch."""

from pocketclip.data.batches.draw import Captions, DrawnCaptions, EachCaption, draw_captions
from pocketclip.data.batches.identities import IdentityPlan, identity_plan
from pocketclip.data.batches.loader import TrainingBatches
from pocketclip.data.batches.neighbours import NeighbourPlan, neighbour_plan
from pocketclip.data.batches.plan import BatchPlan
from pocketclip.data.batches.teachers import TeacherReader, Teachers
from pocketclip.data.batches.views import Views, views_of

__all__ = [
    "BatchPlan",
    "Captions",
    "DrawnCaptions",
    "EachCaption",
    "IdentityPlan",
    "NeighbourPlan",
    "TeacherReader",
    "Teachers",
    "TrainingBatches",
    "Views",
    "draw_captions",
    "identity_plan",
    "neighbour_plan",
    "views_of",
]

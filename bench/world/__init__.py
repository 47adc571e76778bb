"""The embedded world: captioned pictures from counters, with ground truth and graded domain shifts.

spec = Spec(shift="sketch", amplitude=amplitude("sketch", 3))
pictures(spec, torch.arange(1000))      # uint8 (1000, 3, 64, 64)
labels(spec, torch.arange(1000))        # classes(spec.variant)[label] is the name
"""

from bench.world.captions import TEMPLATES
from bench.world.scenes import CLASSES, SYNONYMS, Difficulty, Scenes, Spec, classes, labels
from bench.world.sets import parameters, pictures, sheet, truth, vocabulary
from bench.world.shifts import SEVERITIES, SHIFTS, TEST_SHIFTS, amplitude, photo_difficulty

__all__ = [
    "CLASSES",
    "SEVERITIES",
    "SHIFTS",
    "SYNONYMS",
    "TEMPLATES",
    "TEST_SHIFTS",
    "Difficulty",
    "Scenes",
    "Spec",
    "amplitude",
    "classes",
    "labels",
    "parameters",
    "photo_difficulty",
    "pictures",
    "sheet",
    "truth",
    "vocabulary",
]

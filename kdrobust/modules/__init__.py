"""The LightningModules, the callbacks that watch them, and their learning-rate schedules."""

from kdrobust.modules.averaging import AveragedWeights
from kdrobust.modules.base import RobustModule, TrainingError
from kdrobust.modules.checkpoint_file import CheckpointFile
from kdrobust.modules.distillation import DistillationModule
from kdrobust.modules.held_folder import HeldFolder
from kdrobust.modules.nonfinite import NonFinite
from kdrobust.modules.overfitting import OverfittingWarning
from kdrobust.modules.perturbation import WeightPerturbation
from kdrobust.modules.progress import ProgressLines
from kdrobust.modules.resume import ResumePoint, find_resume_point, place_of
from kdrobust.modules.schedulers import multistep
from kdrobust.modules.sharing import SharedAnswers
from kdrobust.modules.steps import IncompleteTrainingError, StepCount, is_over
from kdrobust.modules.teacher import TeacherModule
from kdrobust.modules.unprofiled import Unprofiled
from kdrobust.modules.validation import CollapseWarning, RobustValidation

__all__ = [
    "AveragedWeights",
    "CheckpointFile",
    "CollapseWarning",
    "DistillationModule",
    "HeldFolder",
    "IncompleteTrainingError",
    "NonFinite",
    "OverfittingWarning",
    "ProgressLines",
    "ResumePoint",
    "RobustModule",
    "RobustValidation",
    "SharedAnswers",
    "StepCount",
    "TeacherModule",
    "TrainingError",
    "Unprofiled",
    "WeightPerturbation",
    "find_resume_point",
    "is_over",
    "multistep",
    "place_of",
]

"""Stages: one file each, the story from a config to a result. `run_stage` picks one by name."""

from kdrobust.stages.run import run_stage, run_stage_in

__all__ = ["run_stage", "run_stage_in"]

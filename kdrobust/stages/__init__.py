"""Stages: one file each, the story from a config to a result; `run` is the one way into all of them."""

from kdrobust.stages.run import resolve, run_config, run_stage, run_written

__all__ = ["resolve", "run_config", "run_stage", "run_written"]

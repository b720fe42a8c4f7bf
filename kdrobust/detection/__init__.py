"""Detecting adversarial examples: data to learn it from, figures, thresholds, and a stream of inputs to be judged.

Hands on nothing, so that `kdrobust detect --help` loads no torch.
"""

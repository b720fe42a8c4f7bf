"""The benchmark: every method on equal terms, as a plan of jobs, records kept as data, and the pages made from them."""

from kdrobust.benchmark.command import main

__all__ = ["main"]

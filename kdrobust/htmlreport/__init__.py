"""The HTML page of many runs: one file, opened from disk or served on this machine while runs go on. No torch."""

from kdrobust.htmlreport.collect import collect
from kdrobust.htmlreport.command import main
from kdrobust.htmlreport.page import FILE, render, write_report
from kdrobust.htmlreport.panels import pareto_front
from kdrobust.htmlreport.server import ReportServer, signature

__all__ = ["FILE", "ReportServer", "collect", "main", "pareto_front", "render", "signature", "write_report"]

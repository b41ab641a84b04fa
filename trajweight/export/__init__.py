"""A run's weights, made to take effect in the trainer they go to."""

from trajweight.export.exporting import ExportResult, export_weights
from trajweight.export.facts import MANIFEST
from trajweight.export.request import ExportRequest

__all__ = ["MANIFEST", "ExportRequest", "ExportResult", "export_weights"]

"""Pages for people: one self-contained HTML file with text, sortable tables and figures, for phone and desktop."""

from estimators.report.page import Badge, Measured, Page, number

__all__ = ["Badge", "Measured", "Page", "number"]

"""Formats of reports, read and written; reports and datasets, written and published."""

"""Readers and writers of report formats, and the publishing of reports and datasets."""

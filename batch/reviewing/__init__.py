"""People's answers about a report: kept in a file beside it, and applied to its rows."""

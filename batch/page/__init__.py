"""The HTML page of a report, for viewing photos and answers and correcting them."""

"""The page of a report: one HTML file to look at photos and answers, and to put answers right."""

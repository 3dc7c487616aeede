"""What people said of a report's answers, learnt from and judged by."""

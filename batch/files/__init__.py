"""Files: opened safely, drafted, published in one step, and locked."""

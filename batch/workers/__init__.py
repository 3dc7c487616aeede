"""The processes that work on photos, and what is said to them."""

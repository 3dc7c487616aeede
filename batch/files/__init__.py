"""Files on disk: opening, locking, drafts and atomic publishing."""

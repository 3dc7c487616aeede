"""Which files a run takes of a listing that many runs share."""

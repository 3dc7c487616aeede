"""The journal: the row and state of every file, kept between runs."""

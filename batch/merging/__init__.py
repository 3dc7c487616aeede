"""Reports of shards, checked and merged into one."""

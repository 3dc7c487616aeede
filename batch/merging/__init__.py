"""The reports of shards joined into one."""

"""Where photos come from: folders, lists, buckets and archives."""

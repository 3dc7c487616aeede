"""Discovery of photos in folders, lists, archives, stores and manifests, and their fetching."""

"""Where photos are: in folders, lists, archives, stores and manifests."""

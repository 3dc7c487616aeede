"""Object stores and web servers: listing, download, upload and retries through fsspec."""

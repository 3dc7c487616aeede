"""Object stores and web servers: asked, read from and written to."""

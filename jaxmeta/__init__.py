"""jaxmeta."""

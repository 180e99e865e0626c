"""Where a lake's bytes live: a folder, or a bucket of an object store."""

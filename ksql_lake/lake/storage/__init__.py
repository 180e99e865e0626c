"""The storage of a lake: a folder, or a bucket of an object store."""

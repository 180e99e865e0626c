"""Output, progress, logs and written files, shared by all commands."""

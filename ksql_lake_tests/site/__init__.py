"""The documentation: its generated parts, its snippets, and the site that is built from it."""

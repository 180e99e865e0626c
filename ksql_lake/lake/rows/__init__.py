"""Rows on their way into a commit: staged, compared with what the lake holds, written."""

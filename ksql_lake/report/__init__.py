"""Monitoring: what the lake holds, how fresh it is, and what is missing."""

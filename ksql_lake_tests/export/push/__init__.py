"""Exports by push query."""

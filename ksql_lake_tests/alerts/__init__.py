"""Alerts over real loopback channels."""

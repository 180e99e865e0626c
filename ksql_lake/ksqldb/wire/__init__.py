"""Receive HTTP answers, limit them, and parse them into events."""

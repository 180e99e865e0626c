"""Bytes of HTTP answers: received, bounded, taken apart into events, and retried."""

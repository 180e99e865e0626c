"""Tests of the export use case, against a real server process."""

"""Tests of the devserver room."""

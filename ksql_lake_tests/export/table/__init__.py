"""Tests of reading whole tables."""

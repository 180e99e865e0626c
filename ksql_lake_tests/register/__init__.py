"""Tests of indexes in table formats."""

"""Tests of the ksqldb room."""

"""Tests of the lake as SQL views, frames and files for other tools."""

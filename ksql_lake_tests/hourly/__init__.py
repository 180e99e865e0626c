"""Hourly exports over simulated days: what they leave behind, counted, and whether it grows."""

from __future__ import annotations

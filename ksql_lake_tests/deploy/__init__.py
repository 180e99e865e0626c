"""Deployments on real servers."""

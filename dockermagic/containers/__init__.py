"""Containers: create, start, stop, remove."""

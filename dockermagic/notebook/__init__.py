"""Jupyter: the only room that knows comms, HTML and the kernel's threads."""

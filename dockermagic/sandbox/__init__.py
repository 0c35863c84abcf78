"""A process in a root filesystem, without root."""

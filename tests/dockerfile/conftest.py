"""The long run of the generated texts."""

from __future__ import annotations

from hypothesis import settings

# Here, and not where it is used: --hypothesis-profile is looked up before any test is imported.
settings.register_profile("long", max_examples=5000, derandomize=False, deadline=None)

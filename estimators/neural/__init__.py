"""Divergences as a supremum over critics: networks, what constrains them, and how they are trained."""

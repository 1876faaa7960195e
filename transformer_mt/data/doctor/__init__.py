"""The data doctor: what parallel text is like, and what about it is suspicious."""

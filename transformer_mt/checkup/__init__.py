"""The report of ``mt check``: a preflight of training, and everything found as text and as a page."""

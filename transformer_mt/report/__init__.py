"""``mt report``: all that is to be known of a run, as one page."""

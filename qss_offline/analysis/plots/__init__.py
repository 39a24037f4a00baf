"""Every figure that is drawn of runs."""

"""One page of HTML about runs of any kind, with its curves and tables."""

"""The tabular half of the paper: gridworlds, Q(s,a) and Q(s,s') in tables."""

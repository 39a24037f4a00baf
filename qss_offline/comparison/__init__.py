"""Many methods on many recordings, cell by cell: the paper's Table 1 and its like."""

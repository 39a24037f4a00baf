"""Any log becomes a dataset: named columns, roles, checked arrays, transitions."""

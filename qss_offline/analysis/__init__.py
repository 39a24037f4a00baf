"""Looking at finished runs: diagnostics, plans, videos, figures and reports."""

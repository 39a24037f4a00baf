"""Acting and learning together: full D3G, what it is compared with, and Figures 6 and 7."""

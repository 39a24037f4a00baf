"""The cells of a study, on the cores of this machine or on a Ray cluster."""

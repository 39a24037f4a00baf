"""The losses of the paper, one equation in one place. No I/O, no optimiser, no seed loop."""

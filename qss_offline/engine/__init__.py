"""Many seeds at once: parameters, optimiser, sampling, the training loop. Knows no algorithm."""

"""Several methods trained side by side and raced on one online budget."""

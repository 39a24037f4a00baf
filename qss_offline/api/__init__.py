"""The Python API, whose names `qss_offline` hands on: recordings, training, runs."""

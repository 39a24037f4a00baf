"""The program `qss`: a module for each group of commands, thin over `qss_offline.api`."""

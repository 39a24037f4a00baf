"""The program `qss-offline`: a module for each group of commands."""

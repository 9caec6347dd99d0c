"""Experiments: one file each, a plan (plain data), its runs through the public names, and a record for the store."""

"""Density clusters of adapters, with numbers that persist from run to run.

table.py        updating the table `clusters`
identity.py     matching new clusters with earlier ones
"""

"""Density clusters of adapters, kept from night to night.

table.py        the table `clusters`, brought up to date
identity.py     which of tonight's clusters is which of last night's
"""

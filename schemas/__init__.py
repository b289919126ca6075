"""The index: Arrow schemas of its tables, reading and writing them, and the error tree."""

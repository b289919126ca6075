"""The explorer: a map of a base's adapters, in one HTML file that asks nothing of any network."""

"""Adapters trained for real, and the Hub around them."""

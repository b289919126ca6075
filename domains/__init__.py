"""Domains: density clusters of adapters, kept from night to night."""

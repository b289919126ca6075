"""Everything that speaks to a Hub, and the local read-only Hub."""

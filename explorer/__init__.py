"""The map of a base: adapters as points of a plane, a page that shows them, and exports."""

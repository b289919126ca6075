"""The map of a base: adapters as points in a plane, a page that shows them, and exports.

pool.py         which adapters are points
layout.py, placement.py     the plane: computed from scratch, or kept and extended
payload.py, page.py     the page's data, and the page
text_map.py     the map in the terminal
exports.py      a pool as one file for other programs
web/            the page's TypeScript
"""

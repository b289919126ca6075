"""The map of a base: adapters as points of a plane, a page that shows them, and exports.

pool.py         which adapters are points
layout.py, placement.py     the plane: laid out from nothing, or kept and added to
payload.py, page.py     the page's data, and the page
text_map.py     the map in characters
exports.py      a pool as one file for other programs
web/            the page's TypeScript
"""

"""Trackers of points with one interface (paper 002, sec. 3.2 and 4.3.1; ``interface``).

``registry.create`` makes one by name.
"""

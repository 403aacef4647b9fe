"""Groundswell: an event-driven backend for products that can go viral.

Every service lives in a package of its own with the same anatomy (see CONTRIBUTING.md); `main` is the only file that names them all.
"""

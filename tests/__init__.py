"""All tests. `python -m tests` runs them."""

SHARED = "GROUNDSWELL_TESTS_SHARED"
"""The variable that names a folder for what several runs of pytest need and one of them makes, such as the image."""
FOLDERS = "PYTEST_DEBUG_TEMPROOT"
"""The variable that tells pytest where to make its folders."""

"""Scenarios that locust drives: what people and programs do at the public door, for a page that shows it live."""

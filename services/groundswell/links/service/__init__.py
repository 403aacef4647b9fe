"""The use cases of links: managing them, their domains and codes, following them, and keeping what is remembered of them true."""

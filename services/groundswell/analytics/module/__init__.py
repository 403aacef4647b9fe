"""The wiring of analytics: three modules, which may run in one process or in three."""

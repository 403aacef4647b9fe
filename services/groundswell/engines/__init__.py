"""engines — the real servers that a laptop runs, and the supervisor that keeps them and our own processes alive.

Kafka, Valkey, PostgreSQL come as packages and run as child processes; ClickHouse runs inside the writer; objects are a folder. Each
gives way to an address in the environment. Nothing here knows what the platform does: the topology is a data file.
"""

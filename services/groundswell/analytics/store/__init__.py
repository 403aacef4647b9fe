"""Every statement that analytics sends to ClickHouse, and nothing else."""

"""All queries of links: PostgreSQL by table family, and the records in Valkey."""

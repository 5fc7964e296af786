"""PostgreSQL: the only writers, the only readers, the schema and its migrations."""

-- Which schema a database has.

-- name: schema_versions
-- The version of the schema, and the oldest code that may work on it.
SELECT version, compatible_with FROM oracle.schema_version;

-- name: set_schema_version
-- Inside a migration's transaction. A migration that older code can live with lowers compatible_with itself.
WITH gone AS (DELETE FROM oracle.schema_version)
INSERT INTO oracle.schema_version (version, compatible_with, name) VALUES (%(version)s, %(version)s, %(name)s);

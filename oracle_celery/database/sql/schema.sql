-- Which schema a database has.

-- name: schema_versions
-- The version of the schema, and the oldest code that may work on it.
SELECT version, compatible_with FROM oracle.schema_version;

-- name: set_schema_version
-- Inside a migration's transaction. What an earlier migration has locked out stays so.
WITH gone AS (DELETE FROM oracle.schema_version RETURNING compatible_with)
INSERT INTO oracle.schema_version (version, compatible_with, name)
SELECT %(version)s, greatest(%(compatible_with)s, max(compatible_with)), %(name)s FROM gone;

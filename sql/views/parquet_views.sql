-- Adapters and their vectors over the Parquet files alone, computed when they are read.

CREATE OR REPLACE VIEW comparable AS
SELECT
    concat_ws('/', s.repo_id, nullif(s.subfolder, '')) AS adapter,
    s.base, s.repo_id, s.subfolder, s.revision, s.recipe_id, p.current, p.newest,
    s.signal, s.delta, s.embedded_at
FROM hubdelta.stored_vectors AS s
JOIN hubdelta.standing AS p ON p.place = s.place
WHERE hubdelta.is_comparable(s.delta, s.signal);

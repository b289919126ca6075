-- A file that was set aside as damaged and later restored leaves two rows of one (key, recipe): the
-- newer one counts. Rows are selected by place, so that deltas are never sorted or hashed.
CREATE OR REPLACE VIEW hubdelta.embedded AS
FROM hubdelta.stored_facts AS s
QUALIFY row_number() OVER (
    PARTITION BY s.base, s.repo_id, s.subfolder, s.revision, s.recipe_id
    ORDER BY s.embedded_at DESC, s.place DESC
) = 1;

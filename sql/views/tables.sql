-- The stored tables, one view each, over `hubdelta.stored(name)`, `hubdelta.stored_by_base(name)` and
-- `hubdelta.stored_vectors`, which come from parquet_sources.sql or from cache_sources.sql.

CREATE OR REPLACE VIEW catalog AS
SELECT concat_ws('/', c.repo_id, nullif(c.subfolder, '')) AS adapter, c.*
FROM hubdelta.stored_by_base('catalog') AS c;

CREATE OR REPLACE VIEW vectors AS
SELECT
    concat_ws('/', s.repo_id, nullif(s.subfolder, '')) AS adapter,
    s.* EXCLUDE (place)
FROM hubdelta.stored_vectors AS s
WHERE s.place IN (SELECT e.place FROM hubdelta.embedded AS e);

CREATE OR REPLACE VIEW failures AS
SELECT concat_ws('/', f.repo_id, nullif(f.subfolder, '')) AS adapter, f.*
FROM hubdelta.stored_by_base('failures') AS f;

CREATE OR REPLACE VIEW bases AS
FROM hubdelta.stored_by_base('bases');

CREATE OR REPLACE VIEW runs AS
FROM hubdelta.stored('runs');

-- Labels that differ only in case are one label, spelled as it was last.
CREATE OR REPLACE VIEW labels AS
WITH present AS (
    FROM hubdelta.stored('labels') AS l
    QUALIFY row_number() OVER (PARTITION BY l.adapter ORDER BY l.labelled_at DESC, l.label) = 1
        AND l.label IS NOT NULL
)
SELECT
    p.* REPLACE (
        first_value(p.label) OVER (
            PARTITION BY lower(p.label) ORDER BY p.labelled_at DESC, p.label
        ) AS label
    )
FROM present AS p;

CREATE OR REPLACE VIEW clusters AS
WITH present AS (
    FROM hubdelta.stored_by_base('clusters') AS s
    QUALIFY row_number() OVER (
        PARTITION BY s.base, s.cluster ORDER BY s.clustered_at DESC, s.run_id DESC
    ) = 1
),
members AS (
    SELECT
        p.base, p.recipe_id, p.cluster, len(p.members) AS size, unnest(p.members) AS adapter,
        unnest(p.strengths) AS strength, p.medoid, p.cohesion, p.silhouette, p.clustered_at
    FROM present AS p
)
SELECT
    m.base, m.cluster, m.size, m.adapter, m.strength, m.adapter = m.medoid AS is_medoid,
    m.cohesion, m.silhouette, m.recipe_id, m.clustered_at
FROM members AS m;

CREATE OR REPLACE VIEW promotions AS
FROM hubdelta.stored_by_base('promotions') AS p
QUALIFY row_number() OVER (
    PARTITION BY p.base, p.recipe_id, p.adapter ORDER BY p.read_at DESC, p.run_id DESC
) = 1;

CREATE OR REPLACE VIEW maps AS
FROM hubdelta.stored_by_base('maps') AS m
QUALIFY m.map_id = max(m.map_id) OVER (PARTITION BY m.base, m.recipe_id)
    AND row_number() OVER (
        PARTITION BY m.base, m.recipe_id, m.map_id, m.adapter
        ORDER BY m.placed_at DESC, m.revision
    ) = 1;

CREATE OR REPLACE VIEW spaces AS
FROM hubdelta.stored_by_base('spaces');

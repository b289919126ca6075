-- The current catalog state and vector of each adapter, derived from `catalog`, `failures` and
-- `hubdelta.embedded`, over the cache or the files.

-- Zero, infinite and NaN deltas have no direction to compare, and a delta within the noise is meaningless.
-- Without the casts, DuckDB 1.1 cannot choose between list_dot_product of FLOAT[] and of DOUBLE[].
CREATE OR REPLACE MACRO hubdelta.is_comparable(delta, signal) AS
    isfinite(list_dot_product(delta::FLOAT[], delta::FLOAT[]))
    AND list_dot_product(delta::FLOAT[], delta::FLOAT[]) > 0
    AND signal > 1 AND NOT isnan(signal);

-- A vector is meaningless for an adapter that turns out to have been trained on another base.
CREATE OR REPLACE MACRO hubdelta.is_of_another(base, canonical_base) AS
    coalesce(canonical_base <> base, false);

-- A catalog row is written when a crawl sees a change, so the newest row is the current state.
-- Mirrors of the base are in the catalog for the crawler; they are not adapters.
CREATE OR REPLACE VIEW hubdelta.present_adapters AS
WITH current AS (
    FROM catalog AS c
    QUALIFY row_number() OVER (
        PARTITION BY c.base, c.repo_id, c.subfolder
        ORDER BY c.crawled_at DESC, c.run_id DESC, c.revision
    ) = 1
),
newest AS (
    FROM hubdelta.embedded AS v
    QUALIFY row_number() OVER (
        PARTITION BY v.base, v.repo_id, v.subfolder, v.revision
        ORDER BY v.embedded_at DESC, v.recipe_id
    ) = 1
),
attempted AS (
    FROM failures AS f
    QUALIFY row_number() OVER (
        PARTITION BY f.base, f.repo_id, f.subfolder, f.revision
        ORDER BY f.attempt DESC, f.failed_at DESC, f.run_id DESC
    ) = 1
)
SELECT
    c.adapter,
    CASE
        WHEN c.vanished_at IS NOT NULL THEN 'vanished'
        WHEN v.revision IS NOT NULL AND NOT hubdelta.is_of_another(c.base, c.canonical_base)
            THEN 'embedded'
        WHEN f.revision IS NOT NULL THEN 'failed'
        ELSE 'pending'
    END AS status,
    c.* EXCLUDE (adapter, run_id),
    f.reason, f.message, f.attempt, f.failed_at, f.due_at,
    v.recipe_id, v.base_revision, v.probe_set, v.norm, v.signal, v.engine, v.precision,
    v.adapter_type, v.rank, v.alpha, v.target_modules, v.weight_bytes, v.embedded_at
FROM current AS c
LEFT JOIN newest AS v
    ON (v.base, v.repo_id, v.subfolder, v.revision) = (c.base, c.repo_id, c.subfolder, c.revision)
LEFT JOIN attempted AS f
    ON (f.base, f.repo_id, f.subfolder, f.revision) = (c.base, c.repo_id, c.subfolder, c.revision)
    AND (v.revision IS NULL OR hubdelta.is_of_another(c.base, c.canonical_base))
WHERE c.kind <> 'mirror';

-- In each recipe one of an adapter's vectors is `current` and represents it: that of the current
-- revision, or else the one made last. This is decided before vectors without direction are dropped,
-- so an older revision never represents a newer one. `newest` is current, and in the recipe in which
-- the adapter was embedded last. An adapter of another base has none.
CREATE OR REPLACE VIEW hubdelta.standing AS
WITH present AS (
    SELECT
        c.base, c.repo_id, c.subfolder,
        max_by(c.revision, (c.crawled_at, c.run_id)) AS revision,
        hubdelta.is_of_another(c.base, max_by(c.canonical_base, (c.crawled_at, c.run_id)))
            AS is_foreign
    FROM catalog AS c
    GROUP BY c.base, c.repo_id, c.subfolder
),
ranked AS (
    SELECT e.*, row_number() OVER (
        PARTITION BY e.base, e.repo_id, e.subfolder, e.recipe_id
        ORDER BY (p.revision = e.revision) IS NOT TRUE, e.embedded_at DESC, e.revision
    ) = 1 AND NOT coalesce(p.is_foreign, false) AS current
    FROM hubdelta.embedded AS e
    LEFT JOIN present AS p ON (p.base, p.repo_id, p.subfolder) = (e.base, e.repo_id, e.subfolder)
)
SELECT r.place, r.current, r.current AND row_number() OVER (
    PARTITION BY r.base, r.repo_id, r.subfolder, r.current
    ORDER BY r.embedded_at DESC, r.recipe_id
) = 1 AS newest
FROM ranked AS r;

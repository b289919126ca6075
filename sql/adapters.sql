-- What is known about each adapter now, and which of its vectors stands for it.

-- Parquet stores a delta as FLOAT[]; zero, infinite and NaN ones have no direction to compare.
CREATE OR REPLACE MACRO hubdelta.has_direction(delta) AS
    isfinite(list_dot_product(delta, delta)) AND list_dot_product(delta, delta) > 0;

-- A catalog row is written when a crawl sees a change, so the newest row is the present state.
-- Mirrors, copies of the base, are in the catalog for the next crawl's sake; nothing embeds them.
-- Mirrors of the base stand in the catalog for the crawler's sake; they are no adapters.
CREATE OR REPLACE VIEW adapters AS
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
        ORDER BY f.failed_at DESC, f.attempt DESC
    ) = 1
)
SELECT
    c.adapter,
    CASE
        WHEN c.vanished_at IS NOT NULL THEN 'vanished'
        WHEN v.revision IS NOT NULL THEN 'embedded'
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
    AND v.revision IS NULL
WHERE c.kind <> 'mirror';

COMMENT ON VIEW adapters IS
    'The newest revision of each adapter of each base, with everything known about it';
COMMENT ON COLUMN adapters.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN adapters.status IS
    'embedded, pending (no attempt at this revision yet), failed, or vanished from the Hub';
COMMENT ON COLUMN adapters.base IS 'base model that was crawled, ORG/NAME';
COMMENT ON COLUMN adapters.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN adapters.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN adapters.revision IS '40-hex commit of the repository';
COMMENT ON COLUMN adapters.kind IS 'adapter (PEFT) or full (a full finetune)';
COMMENT ON COLUMN adapters.relation IS 'adapter, finetune, quantized or merge, as tagged';
COMMENT ON COLUMN adapters.canonical_base IS
    'the base it was concluded to belong to; differs from base on a contradiction';
COMMENT ON COLUMN adapters.evidence IS
    'what the conclusion rests on: tag, card, peft_config, mirror, local_path or named';
COMMENT ON COLUMN adapters.declared_base IS
    'base_model_name_or_path of adapter_config.json, as written';
COMMENT ON COLUMN adapters.via IS 'the mirror of the base that it names, if it names one';
COMMENT ON COLUMN adapters.weights_files IS 'weight files, as paths inside the repository';
COMMENT ON COLUMN adapters.author IS 'owner of the repository';
COMMENT ON COLUMN adapters.created_at IS 'creation of the repository';
COMMENT ON COLUMN adapters.last_modified IS 'newest commit of the repository';
COMMENT ON COLUMN adapters.downloads IS 'downloads in the last 30 days [downloads]';
COMMENT ON COLUMN adapters.likes IS 'likes [likes]';
COMMENT ON COLUMN adapters.gated IS 'auto or manual where files need an approved request';
COMMENT ON COLUMN adapters.private IS 'visible to its owner only';
COMMENT ON COLUMN adapters.disabled IS 'switched off by the Hub';
COMMENT ON COLUMN adapters.library_name IS 'library that loads it';
COMMENT ON COLUMN adapters.pipeline_tag IS 'task, in the Hub''s words';
COMMENT ON COLUMN adapters.task_type IS 'task_type of adapter_config.json';
COMMENT ON COLUMN adapters.license IS 'licence, as declared';
COMMENT ON COLUMN adapters.datasets IS 'datasets it declares';
COMMENT ON COLUMN adapters.languages IS 'languages it declares';
COMMENT ON COLUMN adapters.tags IS 'every tag of the repository';
COMMENT ON COLUMN adapters.vanished_at IS 'when a full crawl found it gone';
COMMENT ON COLUMN adapters.crawled_at IS 'when the row was made';
COMMENT ON COLUMN adapters.reason IS
    'why the newest attempt at this revision failed; null unless status is failed';
COMMENT ON COLUMN adapters.message IS 'what happened and what to do, in a line';
COMMENT ON COLUMN adapters.attempt IS 'which attempt this was, from 1';
COMMENT ON COLUMN adapters.failed_at IS 'when it failed';
COMMENT ON COLUMN adapters.due_at IS
    'when to try again; null: when the repository changes, or with --retry-failed';
COMMENT ON COLUMN adapters.recipe_id IS
    'recipe of the newest vector of this revision; null, as what follows, unless it has one';
COMMENT ON COLUMN adapters.base_revision IS '40-hex commit of the base';
COMMENT ON COLUMN adapters.probe_set IS 'name of the probe set';
COMMENT ON COLUMN adapters.norm IS 'L2 norm of delta [hidden-state units]';
COMMENT ON COLUMN adapters.signal IS 'norm over the noise floor of the run; good from 60 on: cosine to fp32 at least .999 [ratio]';
COMMENT ON COLUMN adapters.engine IS 'engine that made it';
COMMENT ON COLUMN adapters.precision IS 'arithmetic that made it: fp32, ...';
COMMENT ON COLUMN adapters.adapter_type IS 'PEFT type (LORA, ...) or FULL';
COMMENT ON COLUMN adapters.rank IS 'r of a low-rank adapter';
COMMENT ON COLUMN adapters.alpha IS 'alpha of a low-rank adapter';
COMMENT ON COLUMN adapters.target_modules IS 'module names that the weights adapt';
COMMENT ON COLUMN adapters.weight_bytes IS 'size of the weight files [bytes]';
COMMENT ON COLUMN adapters.embedded_at IS 'when the vector was made';

-- Every vector that has a direction. In each recipe one of an adapter's vectors is `current`, it
-- stands for the adapter: that of the present revision, or else the one made last. A vector
-- without direction is dropped after that choice: an older revision never speaks for a newer one.
CREATE OR REPLACE VIEW comparable AS
WITH present AS (
    SELECT c.base, c.repo_id, c.subfolder, max_by(c.revision, (c.crawled_at, c.run_id)) AS revision
    FROM catalog AS c
    GROUP BY c.base, c.repo_id, c.subfolder
),
ranked AS (
    SELECT e.*, row_number() OVER (
        PARTITION BY e.base, e.repo_id, e.subfolder, e.recipe_id
        ORDER BY p.revision IS NULL, e.embedded_at DESC, e.revision
    ) = 1 AS current
    FROM hubdelta.embedded AS e
    LEFT JOIN present AS p
        ON (p.base, p.repo_id, p.subfolder, p.revision)
        = (e.base, e.repo_id, e.subfolder, e.revision)
),
placed AS (
    SELECT r.*, r.current AND row_number() OVER (
        PARTITION BY r.base, r.repo_id, r.subfolder, r.current
        ORDER BY r.embedded_at DESC, r.recipe_id
    ) = 1 AS newest
    FROM ranked AS r
)
SELECT
    concat_ws('/', s.repo_id, nullif(s.subfolder, '')) AS adapter,
    s.base, s.repo_id, s.subfolder, s.revision, s.recipe_id, p.current, p.newest,
    s.signal, s.delta, s.embedded_at
FROM hubdelta.stored_vectors AS s
JOIN placed AS p
    ON (p.filename, p.file_row_number) = (s.filename, s.file_row_number)
WHERE hubdelta.has_direction(s.delta) AND s.signal > 1;

COMMENT ON VIEW comparable IS
    'Every vector that is more than noise, and which of them stands for its adapter';
COMMENT ON COLUMN comparable.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN comparable.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN comparable.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN comparable.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN comparable.revision IS '40-hex commit of the repository';
COMMENT ON COLUMN comparable.recipe_id IS
    'hash of base, base commit, probe set, layer, token and pooling';
COMMENT ON COLUMN comparable.current IS
    'stands for the adapter in its recipe: its present revision, or else the one made last';
COMMENT ON COLUMN comparable.newest IS
    'current, and of the recipe in which the adapter was embedded last: one a (base, adapter)';
COMMENT ON COLUMN comparable.signal IS 'norm over the noise floor of the run; good from 60 on: cosine to fp32 at least .999 [ratio]';
COMMENT ON COLUMN comparable.delta IS
    'Delta Activation: mean over probes of h_adapter - h_base, [hidden]';
COMMENT ON COLUMN comparable.embedded_at IS 'when the vector was made';

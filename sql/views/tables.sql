-- The stored tables, one view each, over `hubdelta.stored(name)`, `hubdelta.stored_by_base(name)` and
-- `hubdelta.stored_vectors`, which come from parquet_sources.sql or from cache_sources.sql.

CREATE OR REPLACE VIEW catalog AS
SELECT concat_ws('/', c.repo_id, nullif(c.subfolder, '')) AS adapter, c.*
FROM hubdelta.stored_by_base('catalog') AS c;

COMMENT ON VIEW catalog IS
    'Every state in which the Hub showed an adapter: a row per (key, crawl that saw it change)';
COMMENT ON COLUMN catalog.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN catalog.base IS 'base model that was crawled, ORG/NAME';
COMMENT ON COLUMN catalog.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN catalog.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN catalog.revision IS '40-hex commit of the repository';
COMMENT ON COLUMN catalog.kind IS
    'adapter (PEFT), full (a full finetune) or mirror (a copy of the base)';
COMMENT ON COLUMN catalog.relation IS 'adapter, finetune, quantized or merge, as tagged';
COMMENT ON COLUMN catalog.canonical_base IS
    'the base it was concluded to belong to; differs from base on a contradiction';
COMMENT ON COLUMN catalog.evidence IS
    'what it rests on: tag, card, peft_config, mirror, local_path, content or named';
COMMENT ON COLUMN catalog.declared_base IS
    'base_model_name_or_path of adapter_config.json, as written';
COMMENT ON COLUMN catalog.via IS 'the mirror of the base that it names, if it names one';
COMMENT ON COLUMN catalog.weights_files IS 'weight files, as paths inside the repository; of shards the index file that names them';
COMMENT ON COLUMN catalog.author IS 'owner of the repository';
COMMENT ON COLUMN catalog.created_at IS 'creation of the repository';
COMMENT ON COLUMN catalog.last_modified IS 'newest commit of the repository';
COMMENT ON COLUMN catalog.downloads IS 'downloads in the last 30 days [downloads]';
COMMENT ON COLUMN catalog.likes IS 'likes [likes]';
COMMENT ON COLUMN catalog.gated IS 'auto or manual where files need an approved request';
COMMENT ON COLUMN catalog.private IS 'visible to its owner only';
COMMENT ON COLUMN catalog.disabled IS 'switched off by the Hub';
COMMENT ON COLUMN catalog.library_name IS 'library that loads it';
COMMENT ON COLUMN catalog.pipeline_tag IS 'task, in the Hub''s words';
COMMENT ON COLUMN catalog.task_type IS 'task_type of adapter_config.json';
COMMENT ON COLUMN catalog.license IS 'licence, as declared';
COMMENT ON COLUMN catalog.datasets IS 'datasets it declares';
COMMENT ON COLUMN catalog.languages IS 'languages it declares';
COMMENT ON COLUMN catalog.tags IS 'every tag of the repository';
COMMENT ON COLUMN catalog.vanished_at IS 'when a full crawl found it gone';
COMMENT ON COLUMN catalog.crawled_at IS 'when the row was made; later than all before it';
COMMENT ON COLUMN catalog.run_id IS 'run that made the row';

CREATE OR REPLACE VIEW vectors AS
SELECT
    concat_ws('/', s.repo_id, nullif(s.subfolder, '')) AS adapter,
    s.* EXCLUDE (place)
FROM hubdelta.stored_vectors AS s
WHERE s.place IN (SELECT e.place FROM hubdelta.embedded AS e);

COMMENT ON VIEW vectors IS
    'Every vector: a row per (key, recipe)';
COMMENT ON COLUMN vectors.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN vectors.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN vectors.base_revision IS '40-hex commit of the base';
COMMENT ON COLUMN vectors.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN vectors.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN vectors.revision IS '40-hex commit of the repository';
COMMENT ON COLUMN vectors.recipe_id IS
    'hash of base, base commit, probe set, layer, token and pooling';
COMMENT ON COLUMN vectors.probe_set IS 'name of the probe set';
COMMENT ON COLUMN vectors.probe_set_id IS 'hash of the prompts';
COMMENT ON COLUMN vectors.delta IS
    'Delta Activation: mean over probes of h_adapter - h_base, [hidden]';
COMMENT ON COLUMN vectors.norm IS 'L2 norm of delta [hidden-state units]';
COMMENT ON COLUMN vectors.signal IS 'norm over the noise floor of the run; good from 60 on: cosine to fp32 at least .999 [ratio]';
COMMENT ON COLUMN vectors.engine IS 'engine that made it';
COMMENT ON COLUMN vectors.precision IS 'arithmetic that made it: fp32, ...';
COMMENT ON COLUMN vectors.adapter_type IS 'PEFT type (LORA, ...) or FULL';
COMMENT ON COLUMN vectors.rank IS 'r of a low-rank adapter';
COMMENT ON COLUMN vectors.alpha IS 'alpha of a low-rank adapter';
COMMENT ON COLUMN vectors.target_modules IS 'module names that the weights adapt';
COMMENT ON COLUMN vectors.weight_bytes IS 'size of the weight files [bytes]';
COMMENT ON COLUMN vectors.card IS
    'first 4,000 characters of its model card, without front matter and code';
COMMENT ON COLUMN vectors.embedded_at IS 'when the vector was made';
COMMENT ON COLUMN vectors.run_id IS 'run that made the row';

CREATE OR REPLACE VIEW failures AS
SELECT concat_ws('/', f.repo_id, nullif(f.subfolder, '')) AS adapter, f.*
FROM hubdelta.stored_by_base('failures') AS f;

COMMENT ON VIEW failures IS
    'Every attempt that gave no vector';
COMMENT ON COLUMN failures.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN failures.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN failures.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN failures.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN failures.revision IS
    '40-hex commit of the repository; empty where the Hub does not tell it';
COMMENT ON COLUMN failures.reason IS 'one of the closed list of reasons';
COMMENT ON COLUMN failures.message IS 'what happened and what to do, in a line';
COMMENT ON COLUMN failures.attempt IS 'which attempt this was, from 1';
COMMENT ON COLUMN failures.failed_at IS 'when it failed';
COMMENT ON COLUMN failures.due_at IS
    'when to try again; null: when the repository changes, or on demand';
COMMENT ON COLUMN failures.run_id IS 'run that made the row';

CREATE OR REPLACE VIEW bases AS
FROM hubdelta.stored_by_base('bases');

COMMENT ON VIEW bases IS
    'What each base itself answers to the probes: a row per (recipe, engine, precision, run)';
COMMENT ON COLUMN bases.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN bases.base_revision IS '40-hex commit of the base';
COMMENT ON COLUMN bases.recipe_id IS
    'hash of base, base commit, probe set, layer, token and pooling';
COMMENT ON COLUMN bases.probe_set IS 'name of the probe set';
COMMENT ON COLUMN bases.probe_set_id IS 'hash of the prompts';
COMMENT ON COLUMN bases.prompts IS 'the probes, in order';
COMMENT ON COLUMN bases.layer IS 'where the hidden state is read';
COMMENT ON COLUMN bases.token IS 'at which token';
COMMENT ON COLUMN bases.pooling IS 'how the probes become one vector';
COMMENT ON COLUMN bases.model_type IS 'architecture, as config.json names it';
COMMENT ON COLUMN bases.hidden_size IS 'd, the length of a vector [dimensions]';
COMMENT ON COLUMN bases.activations IS 'h_base, [probes, hidden]';
COMMENT ON COLUMN bases.noise_floor IS
    'largest L2 norm of a delta made by arithmetic alone, the base against itself [hidden-state units]';
COMMENT ON COLUMN bases.engine IS 'engine that made it';
COMMENT ON COLUMN bases.precision IS 'arithmetic that made it: fp32, ...';
COMMENT ON COLUMN bases.embedded_at IS 'when the row was made';
COMMENT ON COLUMN bases.run_id IS 'run that made the row';

CREATE OR REPLACE VIEW runs AS
FROM hubdelta.stored('runs');

COMMENT ON VIEW runs IS
    'Every crawl and index run, written when it ends';
COMMENT ON COLUMN runs.run_id IS 'start time and a random suffix; sorts by time';
COMMENT ON COLUMN runs.kind IS 'crawl or index';
COMMENT ON COLUMN runs.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN runs.base_revision IS 'index: 40-hex commit of the base that was used';
COMMENT ON COLUMN runs.outcome IS 'done, interrupted or failed';
COMMENT ON COLUMN runs.started_at IS 'start of the run';
COMMENT ON COLUMN runs.seconds IS 'wall time [seconds]';
COMMENT ON COLUMN runs.requests IS 'HTTP requests sent to the Hub [requests]';
COMMENT ON COLUMN runs.fetched_bytes IS
    'bodies of the Hub''s answers that arrived, without the base''s files [bytes]';
COMMENT ON COLUMN runs.needed_bytes IS
    'index: what of them the vectors depend on, with headers and configs [bytes]';
COMMENT ON COLUMN runs.busy IS
    'index: by stage (load, download, read, stack, compute, stream, write), how long it had work in hand [seconds]';
COMMENT ON COLUMN runs.waited IS
    'index: by stage, how long it had none while adapters were pending [seconds]';
COMMENT ON COLUMN runs.counts IS
    'crawl: listed, new, changed, vanished; index: embedded, skipped, failed and failed:REASON [adapters]';
COMMENT ON COLUMN runs.marks IS
    'crawl: newest lastModified seen by each listing; the next crawl walks down to it';
COMMENT ON COLUMN runs.versions IS 'versions of hubdelta and of the libraries used';

-- Labels that differ in case only are one; each is spelt as it was last.
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

COMMENT ON VIEW labels IS
    'What the user says adapters are for: the newest label of each, as `hubdelta label` set it';
COMMENT ON COLUMN labels.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN labels.label IS 'the user''s word for it';
COMMENT ON COLUMN labels.labelled_at IS 'when it was set';

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

COMMENT ON VIEW clusters IS
    'The density cluster of each adapter that has one; every run keeps them up to date';
COMMENT ON COLUMN clusters.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN clusters.cluster IS
    'number of the cluster in its base; it stays with it and is never used again';
COMMENT ON COLUMN clusters.size IS 'adapters in the cluster [adapters]';
COMMENT ON COLUMN clusters.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN clusters.strength IS
    'how firmly it belongs to the cluster, 0 to 1 [ratio]';
COMMENT ON COLUMN clusters.is_medoid IS 'whether it is the member most similar to the others';
COMMENT ON COLUMN clusters.cohesion IS
    'mean cosine similarity of the members to each other';
COMMENT ON COLUMN clusters.silhouette IS
    'mean silhouette of the members by cosine distance; null where there is no other cluster';
COMMENT ON COLUMN clusters.recipe_id IS
    'hash of base, base commit, probe set, layer, token and pooling';
COMMENT ON COLUMN clusters.clustered_at IS 'when the cluster last changed';

CREATE OR REPLACE VIEW maps AS
FROM hubdelta.stored_by_base('maps') AS m
QUALIFY m.map_id = max(m.map_id) OVER (PARTITION BY m.base, m.recipe_id)
    AND row_number() OVER (
        PARTITION BY m.base, m.recipe_id, m.map_id, m.adapter
        ORDER BY m.placed_at DESC, m.revision
    ) = 1;

COMMENT ON VIEW maps IS
    'Where each adapter stands on the newest map of its base and recipe; `hubdelta explore` makes them';
COMMENT ON COLUMN maps.base IS 'base model, ORG/NAME or a local folder''s path';
COMMENT ON COLUMN maps.recipe_id IS
    'hash of base, base commit, probe set, layer, token and pooling';
COMMENT ON COLUMN maps.map_id IS
    'the layout that it belongs to: start time and a random suffix; sorts by time';
COMMENT ON COLUMN maps.adapter IS 'org/name[/subfolder], or a local folder''s path';
COMMENT ON COLUMN maps.revision IS '40-hex commit whose vector was placed';
COMMENT ON COLUMN maps.x IS 'to the right, about -1 to 1 [map units]';
COMMENT ON COLUMN maps.y IS 'upwards, on the scale of x [map units]';
COMMENT ON COLUMN maps.method IS
    'how it was placed: tsne, umap or plane with the whole map; neighbors: among them, later';
COMMENT ON COLUMN maps.placed_at IS 'when the row was made';

-- What the columns of `adapters` and `comparable` mean; parquet_views.sql or cache_sources.sql
-- made the views.

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
    'what it rests on: tag, card, peft_config, mirror, local_path, content or named';
COMMENT ON COLUMN adapters.declared_base IS
    'base_model_name_or_path of adapter_config.json, as written';
COMMENT ON COLUMN adapters.via IS 'the mirror of the base that it names, if it names one';
COMMENT ON COLUMN adapters.weights_files IS 'weight files, as paths inside the repository; of shards the index file that names them';
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
COMMENT ON COLUMN adapters.crawled_at IS 'when the row was made; later than all before it';
COMMENT ON COLUMN adapters.reason IS
    'why the newest attempt at this revision failed; null unless status is failed';
COMMENT ON COLUMN adapters.message IS 'what happened and what to do, in a line';
COMMENT ON COLUMN adapters.attempt IS 'which attempt this was, from 1';
COMMENT ON COLUMN adapters.failed_at IS 'when it failed';
COMMENT ON COLUMN adapters.due_at IS
    'when to try again; null: when the repository changes, or on demand';
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

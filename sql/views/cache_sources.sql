-- The stored tables and the current state from the cache, attached as `cache`; cache_schema.sql
-- describes its tables. `hubdelta_delta` is a function of search/function.py: the delta at a slot.

CREATE OR REPLACE MACRO hubdelta.stored(name) AS TABLE FROM query_table('cache.stored_' || name);

CREATE OR REPLACE MACRO hubdelta.stored_by_base(name) AS TABLE FROM hubdelta.stored(name);

CREATE OR REPLACE VIEW hubdelta.stored_facts AS
SELECT v.* EXCLUDE (hidden, slot, fold) FROM cache.stored_vectors AS v;

CREATE OR REPLACE VIEW hubdelta.stored_vectors AS
SELECT
    v.* EXCLUDE (
        norm, signal, engine, precision, adapter_type, rank, alpha, target_modules, weight_bytes,
        card, files, embedded_at, run_id, place, hidden, slot,
        fold
    ),
    hubdelta_delta(nullif(v.hidden, 0), v.slot, v.fold) AS delta,
    v.norm, v.signal, v.engine, v.precision, v.adapter_type, v.rank, v.alpha, v.target_modules,
    v.weight_bytes, v.card, v.files, v.embedded_at, v.run_id, v.place
FROM cache.stored_vectors AS v;


CREATE OR REPLACE VIEW hubdelta.present_adapters AS FROM cache.present_adapters;

CREATE OR REPLACE VIEW hubdelta.terms AS FROM cache.terms;

CREATE OR REPLACE VIEW comparable AS
SELECT
    c.* EXCLUDE (
        family, downloads, license, datasets, embedded_at, place, hidden, slot, norm, fold, sketch
    ),
    hubdelta_delta(c.hidden, c.slot, c.fold) AS delta, c.embedded_at
FROM cache.sketched AS c;

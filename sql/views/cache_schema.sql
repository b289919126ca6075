-- The tables of the cache beyond copies of the stored ones (`stored_NAME`), attached as `cache`. All
-- of it is derived; ingest.py fills it, and settle.sql, which also makes `present_adapters` and
-- `terms`, as present.sql and terms.sql have them. Deltas are in flat files (flat_deltas.py), and
-- stored_vectors has where: `hidden`, `slot` and `fold`.

-- Whether all that is derived from the stored rows is up to date, whether the linkage is too, and
-- the prefix of the names of its flat files.
CREATE TABLE cache.facts (version VARCHAR, settled BOOLEAN, linked BOOLEAN, edition VARCHAR);

-- The Parquet files that are in here, and those that could not be read, with the reason.
CREATE TABLE cache.files (name VARCHAR, bytes BIGINT, modified BIGINT, damage VARCHAR);

-- A number for each base, recipe and length of vectors that are comparable with each other.
CREATE TABLE cache.families (
    base VARCHAR, recipe_id VARCHAR, hidden INTEGER, family INTEGER
);

-- Every vector that has a direction and is more than noise. `place` is its row of stored_vectors,
-- `slot` its row in the flat file of deltas of length `hidden`, `norm` its length, and `fold` the
-- checksum of flat_deltas.py.
CREATE TABLE cache.sketched (
    adapter VARCHAR, base VARCHAR, repo_id VARCHAR, subfolder VARCHAR, revision VARCHAR,
    recipe_id VARCHAR, family INTEGER, current BOOLEAN, newest BOOLEAN, signal DOUBLE,
    downloads BIGINT, license VARCHAR, datasets VARCHAR[],
    embedded_at TIMESTAMP WITH TIME ZONE, place BIGINT, hidden INTEGER, slot BIGINT,
    norm DOUBLE, fold UINTEGER,
    sketch STRUCT(
        b0 BIGINT, b1 BIGINT, b2 BIGINT, b3 BIGINT, b4 BIGINT, b5 BIGINT, b6 BIGINT,
        b7 BIGINT, b8 BIGINT, b9 BIGINT, b10 BIGINT, b11 BIGINT, b12 BIGINT, b13 BIGINT,
        b14 BIGINT, b15 BIGINT
    )
);

-- The single linkage of the newest vectors of each base and recipe: in Prim's order, the cosine
-- distance by which each was reached, and from where; the first has infinity and null.
CREATE TABLE cache.linkage (
    base VARCHAR, recipe_id VARCHAR, position INTEGER, place BIGINT, gap DOUBLE, parent BIGINT
);

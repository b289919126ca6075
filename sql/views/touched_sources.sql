-- What present.sql and terms.sql read when the cache is updated: all that is known of the adapters
-- in `touched`, which are those that new rows are about.

CREATE OR REPLACE VIEW catalog AS
SELECT concat_ws('/', c.repo_id, nullif(c.subfolder, '')) AS adapter, c.*
FROM cache.stored_catalog AS c
SEMI JOIN touched AS t USING (base, repo_id, subfolder);

CREATE OR REPLACE VIEW failures AS
FROM cache.stored_failures AS f
SEMI JOIN touched AS t USING (base, repo_id, subfolder);

CREATE OR REPLACE VIEW hubdelta.stored_facts AS
SELECT v.* EXCLUDE (hidden, slot, fold)
FROM cache.stored_vectors AS v
SEMI JOIN touched AS t USING (base, repo_id, subfolder);

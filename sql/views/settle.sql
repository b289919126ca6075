-- The results of present.sql for the adapters in `touched` go into the cache.

CREATE TABLE IF NOT EXISTS cache.present_adapters AS FROM hubdelta.present_adapters LIMIT 0;

DELETE FROM cache.present_adapters AS a USING touched AS t
WHERE (a.base, a.repo_id, a.subfolder) = (t.base, t.repo_id, t.subfolder);

INSERT INTO cache.present_adapters FROM hubdelta.present_adapters;

CREATE TABLE IF NOT EXISTS cache.terms AS FROM hubdelta.terms LIMIT 0;

DELETE FROM cache.terms AS w USING touched AS t
WHERE w.base = t.base AND w.adapter = concat_ws('/', t.repo_id, nullif(t.subfolder, ''));

INSERT INTO cache.terms FROM hubdelta.terms;

-- A vector missing from `standing` is stored twice, and the other copy counts.
CREATE TEMP TABLE standing AS
SELECT
    c.place, s.current IS NOT NULL AS counts, s.current, s.newest,
    a.downloads, a.license, a.datasets
FROM cache.sketched AS c
SEMI JOIN touched AS t USING (base, repo_id, subfolder)
LEFT JOIN hubdelta.standing AS s ON s.place = c.place
LEFT JOIN hubdelta.present_adapters AS a
    ON (a.base, a.repo_id, a.subfolder) = (c.base, c.repo_id, c.subfolder)
WHERE s.place IS NULL
    OR (c.current, c.newest, c.downloads, c.license, c.datasets)
    IS DISTINCT FROM (s.current, s.newest, a.downloads, a.license, a.datasets);

DELETE FROM cache.sketched AS c USING standing AS s WHERE s.place = c.place AND NOT s.counts;

UPDATE cache.sketched AS c
SET current = s.current, newest = s.newest,
    downloads = s.downloads, license = s.license, datasets = s.datasets
FROM standing AS s
WHERE s.place = c.place;

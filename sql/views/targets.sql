-- What a name refers to, and how two vectors are compared.

CREATE OR REPLACE VIEW adapters AS
SELECT a.*, p.promotes, p.suppresses
FROM hubdelta.present_adapters AS a
LEFT JOIN promotions AS p
    ON (p.base, p.recipe_id, p.adapter) = (a.base, a.recipe_id, a.adapter);

-- Cosines to six decimals: the accuracy of float32 vectors, the same on every machine, so that ties
-- are ties and are ordered by name. (Adding zero turns -0 into 0.)
CREATE OR REPLACE MACRO hubdelta.rounded(cosine) AS round(cosine, 6) + 0;

CREATE OR REPLACE MACRO hubdelta.cosine(x, y) AS
    hubdelta.rounded(list_cosine_similarity(x::DOUBLE[], y::DOUBLE[]));

-- `adapter` is 'org/name[/subfolder]', which selects its current vectors, or the same with
-- '@revision', which selects exactly those. A local folder's path may itself contain an '@'.
CREATE OR REPLACE MACRO hubdelta.vectors_of(adapter) AS TABLE
    FROM comparable AS c
    WHERE (c.current AND c.adapter = adapter)
        OR (c.revision = split_part(adapter, '@', -1) AND c.adapter || '@' || c.revision = adapter);

-- Adapters of several bases can have one name and be embedded at the same time: the order includes
-- the whole key, so that the answer never depends on the files' order.
CREATE OR REPLACE MACRO hubdelta.target(adapter) AS TABLE
    FROM hubdelta.vectors_of(adapter) AS v
    ORDER BY v.embedded_at DESC, v.base, v.recipe_id, v.repo_id, v.subfolder, v.revision
    LIMIT 1;

-- The vectors of two adapters in their latest common recipe: one row, or none.
CREATE OR REPLACE MACRO hubdelta.common_vectors(a, b) AS TABLE
    SELECT
        x.base, x.recipe_id,
        x.repo_id AS a_repo_id, x.subfolder AS a_subfolder, x.revision AS a_revision,
        y.repo_id AS b_repo_id, y.subfolder AS b_subfolder, y.revision AS b_revision,
        x.delta::DOUBLE[] AS a_delta, y.delta::DOUBLE[] AS b_delta,
        sqrt(list_dot_product(a_delta, a_delta)) / x.signal
            + sqrt(list_dot_product(b_delta, b_delta)) / y.signal AS noise_floor
    FROM hubdelta.vectors_of(a) AS x
    JOIN hubdelta.vectors_of(b) AS y ON y.recipe_id = x.recipe_id AND y.base = x.base
    ORDER BY least(x.embedded_at, y.embedded_at) DESC, x.base, x.recipe_id, x.revision, y.revision
    LIMIT 1;

-- The vector that training on the data of both would give, by the paper's additivity:
-- v(D1) + v(D2), not normalized. No row if the two cancel out to within the noise.
CREATE OR REPLACE MACRO hubdelta.sum_of(a, b) AS TABLE
    WITH added AS (
        SELECT v.*, [pair[1] + pair[2] FOR pair IN list_zip(v.a_delta, v.b_delta)] AS delta
        FROM hubdelta.common_vectors(a, b) AS v
    )
    FROM added AS s
    WHERE sqrt(list_dot_product(s.delta, s.delta)) > s.noise_floor;

-- Who is like whom. Distance is cosine distance, 1 - cos, from 0 to 2; vectors of different
-- recipes, and so of different bases, are never compared.
-- In a macro a bare name that equals a parameter is the argument: columns are always qualified.

-- In float64 and to six decimals: what float32 vectors carry, the same on every machine, so that
-- ties are ties and fall to the alphabet.
CREATE OR REPLACE MACRO hubdelta.cosine(x, y) AS
    round(list_cosine_similarity(x::DOUBLE[], y::DOUBLE[]), 6);

-- `adapter` is 'org/name[/subfolder]', which takes the vectors that stand for it, or the same
-- with '@revision', which takes exactly those. A local folder's path may itself hold an '@'.
CREATE OR REPLACE MACRO hubdelta.vectors_of(adapter) AS TABLE
    FROM comparable AS c
    WHERE (c.current AND c.adapter = adapter) OR c.adapter || '@' || c.revision = adapter;

CREATE OR REPLACE MACRO within(adapter, distance := 0.25) AS TABLE
    WITH target AS (
        SELECT v.* FROM hubdelta.vectors_of(adapter) AS v
        ORDER BY v.embedded_at DESC, v.recipe_id
        LIMIT 1
    ),
    others AS (
        SELECT c.*, hubdelta.cosine(t.delta, c.delta) AS similarity
        FROM comparable AS c
        JOIN target AS t
            ON c.recipe_id = t.recipe_id
            AND c.base = t.base
            AND (c.repo_id, c.subfolder) <> (t.repo_id, t.subfolder)
        WHERE c.current
    )
    SELECT
        o.adapter, o.similarity, round(1 - o.similarity, 6) AS distance, o.signal,
        a.downloads, a.license, a.datasets, o.base, o.repo_id, o.subfolder, o.revision
    FROM others AS o
    LEFT JOIN adapters AS a
        ON (a.base, a.repo_id, a.subfolder) = (o.base, o.repo_id, o.subfolder)
    WHERE round(1 - o.similarity, 6) <= distance
    ORDER BY o.similarity DESC, o.adapter;
COMMENT ON MACRO TABLE within IS
    'Adapters no further from an adapter than a cosine distance, nearest first';

CREATE OR REPLACE MACRO neighbors(adapter, k := 10) AS TABLE
    SELECT w.* FROM within(adapter, distance := 2) AS w
    ORDER BY w.similarity DESC, w.adapter
    LIMIT k;
COMMENT ON MACRO TABLE neighbors IS
    'The k adapters most similar to an adapter, nearest first';

-- Null where the two cannot be compared.
CREATE OR REPLACE MACRO similarity(a, b) AS (
    SELECT arg_max(hubdelta.cosine(x.delta, y.delta), least(x.embedded_at, y.embedded_at))
    FROM hubdelta.vectors_of(a) AS x
    JOIN hubdelta.vectors_of(b) AS y ON y.recipe_id = x.recipe_id AND y.base = x.base
);
COMMENT ON MACRO similarity IS
    'Cosine of two adapters in their latest common recipe; null if they cannot be compared';

-- Every two adapters of one base (null: of each base) that are no further apart than `distance`,
-- each by its newest recipe. All are computed: 5,000 adapters make 12.5 million pairs.
CREATE OR REPLACE MACRO pairs(base, distance := 2) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT c.adapter, c.base, c.recipe_id, c.delta::DOUBLE[] AS delta
        FROM comparable AS c
        WHERE c.newest AND (base IS NULL OR c.base = base)
    ),
    compared AS (
        SELECT
            x.adapter AS a, y.adapter AS b, x.base,
            hubdelta.cosine(x.delta, y.delta) AS similarity
        FROM members AS x
        JOIN members AS y
            ON x.adapter < y.adapter AND x.recipe_id = y.recipe_id AND x.base = y.base
    )
    SELECT p.a, p.b, p.similarity, round(1 - p.similarity, 6) AS distance, p.base
    FROM compared AS p
    WHERE round(1 - p.similarity, 6) <= distance;
COMMENT ON MACRO TABLE pairs IS
    'Every two adapters of a base (null: of each base) within a cosine distance';

CREATE OR REPLACE MACRO duplicates(base, distance := 0.01) AS TABLE
    SELECT p.* FROM pairs(base, distance := distance) AS p ORDER BY p.distance, p.a, p.b;
COMMENT ON MACRO TABLE duplicates IS
    'Pairs of adapters of a base that do almost the same, nearest first';

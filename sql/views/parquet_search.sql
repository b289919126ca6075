-- The search among vectors over the Parquet files alone: exact, and as slow as reading every vector.
-- In DuckDB before 1.4, a materialized CTE of a macro cannot have the same name as one in a macro
-- that it calls, so the names differ in macros that call each other.

CREATE OR REPLACE MACRO hubdelta.compared(adapter) AS TABLE
    SELECT
        c.adapter, c.base, c.repo_id, c.subfolder, c.revision, c.signal,
        a.downloads, a.license, a.datasets, hubdelta.cosine(t.delta, c.delta) AS similarity
    FROM comparable AS c
    JOIN hubdelta.target(adapter) AS t
        ON c.recipe_id = t.recipe_id
        AND c.base = t.base
        AND (c.repo_id, c.subfolder) <> (t.repo_id, t.subfolder)
    LEFT JOIN hubdelta.present_adapters AS a
        ON (a.base, a.repo_id, a.subfolder) = (c.base, c.repo_id, c.subfolder)
    WHERE c.current;

CREATE OR REPLACE MACRO neighbors(adapter, k := $NEIGHBORS, exact := false) AS TABLE
    SELECT
        n.adapter, n.similarity, round(1 - n.similarity, 6) AS distance, n.signal,
        n.downloads, n.license, n.datasets, n.base, n.repo_id, n.subfolder, n.revision
    FROM hubdelta.compared(adapter) AS n
    ORDER BY n.similarity DESC, n.adapter, n.repo_id
    LIMIT k;

CREATE OR REPLACE MACRO within(adapter, distance := $DISTANCE, exact := false) AS TABLE
    SELECT
        o.adapter, o.similarity, round(1 - o.similarity, 6) AS distance, o.signal,
        o.downloads, o.license, o.datasets, o.base, o.repo_id, o.subfolder, o.revision
    FROM hubdelta.compared(adapter) AS o
    WHERE round(1 - o.similarity, 6) <= distance AND NOT isnan(distance::DOUBLE)
    ORDER BY o.similarity DESC, o.adapter, o.repo_id;

CREATE OR REPLACE MACRO hubdelta.near_pairs(base, distance, exact) AS TABLE
    WITH pool AS MATERIALIZED (
        SELECT c.adapter, c.base, c.recipe_id, c.delta::DOUBLE[] AS delta
        FROM comparable AS c
        WHERE c.newest AND (base IS NULL OR c.base = base)
    )
    SELECT
        x.adapter AS a, y.adapter AS b, x.base, hubdelta.cosine(x.delta, y.delta) AS similarity
    FROM pool AS x
    JOIN pool AS y
        ON x.adapter < y.adapter AND x.recipe_id = y.recipe_id AND x.base = y.base;

-- Domains: connected components of the graph that joins adapters within a distance.
-- Each adapter starts with its own number as label. In each step it takes the smallest label among
-- itself, its neighbors and the adapter that its label names, and passes it on to that one as well,
-- so even a long chain takes few steps. A step's rows are all adapters; the last step finds nothing
-- to change and has no rows. Labels only fall, so an adapter's smallest is its last.
-- Domain 1 is the largest; ties are ordered by their first members.
CREATE OR REPLACE MACRO hubdelta.components(base, distance := $DISTANCE) AS TABLE
    WITH RECURSIVE numbered AS MATERIALIZED (
        SELECT
            c.base, c.adapter, c.repo_id, c.subfolder, c.revision,
            row_number() OVER (ORDER BY c.base, c.adapter) AS number
        FROM comparable AS c
        WHERE c.newest AND (base IS NULL OR c.base = base)
    ),
    edges AS MATERIALIZED (
        SELECT x.number AS source, y.number AS target
        FROM pairs(base, distance := distance) AS p
        JOIN numbered AS x ON x.adapter = p.a AND x.base = p.base
        JOIN numbered AS y ON y.adapter = p.b AND y.base = p.base
    ),
    links AS MATERIALIZED (
        SELECT e.source, e.target FROM edges AS e
        UNION ALL
        SELECT e.target, e.source FROM edges AS e
        UNION ALL
        SELECT m.number, m.number FROM numbered AS m
    ),
    steps(number, label) AS (
        SELECT m.number, m.number FROM numbered AS m
        UNION ALL
        SELECT t.number, min(t.label)
        FROM (
            SELECT unnest([k.number, k.label]) AS number, k.smallest AS label
            FROM (
                SELECT
                    x.number, x.label, least(n.smallest, y.label) AS smallest,
                    bool_or(least(n.smallest, y.label) < x.label) OVER () AS is_change
                FROM (
                    SELECT l.source AS number, min(z.label) AS smallest
                    FROM steps AS z JOIN links AS l ON l.target = z.number
                    GROUP BY l.source
                ) AS n
                JOIN steps AS x ON x.number = n.number
                JOIN steps AS y ON y.number = x.label
            ) AS k
            WHERE k.is_change
        ) AS t
        GROUP BY t.number
    ),
    labeled AS (
        SELECT s.number, min(s.label) AS label FROM steps AS s GROUP BY s.number
    ),
    sized AS (
        SELECT m.base, g.label, count(*) AS size
        FROM labeled AS g JOIN numbered AS m ON m.number = g.number
        GROUP BY m.base, g.label
    ),
    ordered AS (
        SELECT s.*, row_number() OVER (
            PARTITION BY s.base ORDER BY s.size DESC, s.label
        ) AS domain
        FROM sized AS s
    )
    SELECT m.base, o.domain, o.size, m.adapter, m.repo_id, m.subfolder, m.revision
    FROM ordered AS o
    JOIN labeled AS g ON g.label = o.label
    JOIN numbered AS m ON m.number = g.number;

-- The member with the highest mean similarity to the others: its unit vector times the sum of
-- theirs, in float64, so that ties stay ties.
CREATE OR REPLACE MACRO hubdelta.most_central(base, distance) AS TABLE
    WITH grouped AS MATERIALIZED (
        SELECT
            g.base, g.domain, g.adapter, c.delta::DOUBLE[] AS delta,
            sqrt(list_dot_product(c.delta::DOUBLE[], c.delta::DOUBLE[])) AS norm
        FROM hubdelta.components(base, distance := distance) AS g
        JOIN comparable AS c ON c.newest AND c.base = g.base AND c.adapter = g.adapter
    ),
    coordinates AS (
        SELECT
            m.base, m.domain, generate_subscripts(m.delta, 1) AS i,
            unnest(m.delta) / m.norm AS x
        FROM grouped AS m
    ),
    totals AS (
        SELECT s.base, s.domain, list(s.x ORDER BY s.i) AS total
        FROM (
            SELECT c.base, c.domain, c.i, sum(c.x) AS x
            FROM coordinates AS c GROUP BY c.base, c.domain, c.i
        ) AS s
        GROUP BY s.base, s.domain
    ),
    ranked AS (
        SELECT
            m.base, m.domain, m.adapter,
            round(list_dot_product(m.delta, t.total) / m.norm, 9) AS centrality
        FROM grouped AS m
        JOIN totals AS t ON t.base = m.base AND t.domain = m.domain
    )
    SELECT r.base, r.domain, first(r.adapter ORDER BY r.centrality DESC, r.adapter) AS adapter
    FROM ranked AS r
    GROUP BY r.base, r.domain;

-- Each adapter with its nearest other one in its newest recipe. An adapter that is alone in its
-- recipe has no row.
CREATE OR REPLACE MACRO hubdelta.nearest_of(base) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT
            c.adapter, c.base, c.recipe_id, c.delta::DOUBLE[] AS delta
        FROM comparable AS c
        WHERE c.newest AND (base IS NULL OR c.base = base)
    )
    SELECT
        x.base, x.adapter,
        min({
            'distance': round(1 - hubdelta.cosine(x.delta, y.delta), 6), 'adapter': y.adapter
        }) AS other
    FROM members AS x
    JOIN members AS y
        ON y.recipe_id = x.recipe_id AND y.base = x.base AND y.adapter <> x.adapter
    GROUP BY x.base, x.adapter;

CREATE OR REPLACE MACRO hubdelta.near_sum(a, b, k) AS TABLE
    SELECT c.* FROM comparable AS c WHERE c.current;

-- Each unlabeled adapter with every labeled one within `distance`.
CREATE OR REPLACE MACRO hubdelta.labelled_neighbors(base, distance) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT c.base, c.adapter, c.recipe_id, c.delta, l.label
        FROM comparable AS c
        LEFT JOIN labels AS l ON l.adapter = c.adapter
        WHERE c.newest AND (base IS NULL OR c.base = base)
    ),
    compared AS (
        SELECT
            x.base, x.adapter, y.adapter AS neighbor, y.label,
            round(1 - hubdelta.cosine(x.delta, y.delta), 6) AS distance
        FROM members AS x
        JOIN members AS y
            ON x.label IS NULL AND y.label IS NOT NULL
            AND x.recipe_id = y.recipe_id AND x.base = y.base
    )
    SELECT c.base, c.adapter, c.neighbor, c.label, c.distance
    FROM compared AS c
    WHERE c.distance <= distance;

-- Questions about one adapter, about two, and about new ones. In a macro, an unqualified name that
-- equals a parameter is the argument, so columns are always qualified.

CREATE OR REPLACE MACRO hubdelta.sum_neighbors(a, b, k) AS TABLE
    SELECT
        c.adapter, c.base, c.repo_id, c.subfolder, c.revision, c.signal,
        hubdelta.cosine(s.delta, c.delta) AS similarity,
        hubdelta.cosine(s.a_delta, c.delta) AS to_a,
        hubdelta.cosine(s.b_delta, c.delta) AS to_b
    FROM hubdelta.near_sum(a, b, k) AS c
    JOIN hubdelta.sum_of(a, b) AS s
        ON c.recipe_id = s.recipe_id
        AND c.base = s.base
        AND (c.repo_id, c.subfolder) <> (s.a_repo_id, s.a_subfolder)
        AND (c.repo_id, c.subfolder) <> (s.b_repo_id, s.b_subfolder)
    WHERE c.current
    ORDER BY similarity DESC, c.adapter
    LIMIT k;

-- BETWEEN is an SQL keyword, so the name is always quoted.
CREATE OR REPLACE MACRO "between"(a, b, k := $NEIGHBORS) AS TABLE
    SELECT
        n.adapter, n.similarity, round(1 - n.similarity, 6) AS distance, n.to_a, n.to_b, n.signal,
        m.downloads, m.license, m.datasets, n.base, n.repo_id, n.subfolder, n.revision
    FROM hubdelta.sum_neighbors(a, b, k) AS n
    LEFT JOIN hubdelta.present_adapters AS m
        ON (m.base, m.repo_id, m.subfolder) = (n.base, n.repo_id, n.subfolder)
    ORDER BY n.similarity DESC, n.adapter;

CREATE OR REPLACE MACRO outliers(base, k := $NEIGHBORS) AS TABLE
    WITH farthest AS (
        FROM hubdelta.nearest_of(base) AS n
        ORDER BY n.other.distance DESC, n.adapter, n.base
        LIMIT k
    )
    SELECT
        f.adapter, f.other.adapter AS nearest, f.other.distance, c.signal, e.norm, e.adapter_type,
        m.downloads, m.license, m.datasets, c.base, c.repo_id, c.subfolder, c.revision
    FROM farthest AS f
    JOIN comparable AS c ON c.newest AND c.base = f.base AND c.adapter = f.adapter
    JOIN hubdelta.embedded AS e
        ON (e.base, e.repo_id, e.subfolder, e.revision, e.recipe_id)
        = (c.base, c.repo_id, c.subfolder, c.revision, c.recipe_id)
    LEFT JOIN hubdelta.present_adapters AS m
        ON (m.base, m.repo_id, m.subfolder) = (c.base, c.repo_id, c.subfolder)
    ORDER BY f.other.distance DESC, f.adapter, f.base;

-- When each revision of an adapter was first seen, by a crawl or by an engine, and first embedded;
-- and when the adapter itself was first seen, at any revision.
CREATE OR REPLACE VIEW hubdelta.first_seen AS
WITH sightings AS (
    SELECT
        c.base, c.repo_id, c.subfolder, c.revision, c.crawled_at AS seen_at,
        NULL::TIMESTAMPTZ AS embedded_at
    FROM catalog AS c
    UNION ALL
    SELECT e.base, e.repo_id, e.subfolder, e.revision, e.embedded_at, e.embedded_at
    FROM hubdelta.embedded AS e
)
SELECT
    s.base, s.repo_id, s.subfolder, s.revision,
    min(s.seen_at) AS seen_at,
    min(s.embedded_at) AS embedded_at,
    min(min(s.seen_at)) OVER (PARTITION BY s.base, s.repo_id, s.subfolder) AS known_since
FROM sightings AS s
GROUP BY s.base, s.repo_id, s.subfolder, s.revision;

-- For an adapter that was known before, either its revision is new since then, or only its vector.
CREATE OR REPLACE MACRO new_since(since) AS TABLE
    SELECT
        m.adapter, m.base,
        CASE
            WHEN f.known_since >= since::TIMESTAMPTZ THEN 'new'
            WHEN f.seen_at >= since::TIMESTAMPTZ THEN 'updated'
            ELSE 'embedded'
        END AS change,
        m.status, m.reason, f.seen_at, f.embedded_at, c.cluster,
        m.signal, m.downloads, m.license, m.datasets, m.author
    FROM hubdelta.present_adapters AS m
    JOIN hubdelta.first_seen AS f
        ON (f.base, f.repo_id, f.subfolder, f.revision)
        = (m.base, m.repo_id, m.subfolder, m.revision)
    LEFT JOIN clusters AS c ON c.base = m.base AND c.adapter = m.adapter
    WHERE greatest(f.seen_at, f.embedded_at) >= since::TIMESTAMPTZ
    ORDER BY greatest(f.seen_at, f.embedded_at) DESC, m.adapter, m.base;

-- Other adapters among the k nearest of both. If the two have the same base but no common recipe,
-- each has its neighbors in its own recipe.
CREATE OR REPLACE MACRO hubdelta.shared_neighbors(a, b, k := $NEIGHBORS) AS TABLE
    SELECT x.adapter, x.distance AS distance_to_a, y.distance AS distance_to_b
    FROM neighbors(a, k := k) AS x
    JOIN neighbors(b, k := k) AS y
        ON (y.base, y.repo_id, y.subfolder) = (x.base, x.repo_id, x.subfolder)
    ORDER BY round(x.distance + y.distance, 6), x.adapter;

-- Why two adapters cannot be compared; null if they can.
CREATE OR REPLACE MACRO hubdelta.obstacle(a, b) AS (
    SELECT CASE
        WHEN count(*) = 0 THEN 'not both have a vector with a direction'
        WHEN bool_or(x.base = y.base AND x.recipe_id = y.recipe_id) THEN NULL
        WHEN bool_or(x.base = y.base) THEN 'their recipes differ'
        ELSE 'their bases differ'
    END
    FROM hubdelta.vectors_of(a) AS x
    CROSS JOIN hubdelta.vectors_of(b) AS y
);

-- A quantity with six significant digits, for display.
CREATE OR REPLACE MACRO hubdelta.digits(x) AS
    CASE WHEN abs(x) >= 1e5 AND isfinite(x) THEN printf('%.0f', x::DOUBLE)
        ELSE printf('%.6g', x::DOUBLE) END;

-- Without the first cast, DuckDB 1.1 reads the moment as a time without a date.
CREATE OR REPLACE MACRO hubdelta.minute(moment) AS
    strftime(moment::TIMESTAMPTZ AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M UTC');

CREATE OR REPLACE MACRO hubdelta.words(list) AS
    nullif(array_to_string(list, ', '), '');

-- The angle between two vectors by their cosine [degrees].
CREATE OR REPLACE MACRO hubdelta.angle(cosine) AS
    round(degrees(acos(cosine)), 2);

-- What is known of an adapter, a row per property: its vector in the latest recipe in common with
-- another adapter, or else in its latest one, and the current state of its repository.
CREATE OR REPLACE MACRO hubdelta.properties(adapter, other) AS TABLE
    WITH compared AS (
        SELECT v.base, v.repo_id, v.subfolder, v.revision, v.recipe_id
        FROM hubdelta.vectors_of(adapter) AS v
        LEFT JOIN hubdelta.vectors_of(other) AS o
            ON o.base = v.base AND o.recipe_id = v.recipe_id
        ORDER BY
            o.base IS NULL, least(v.embedded_at, o.embedded_at) DESC, v.base, v.recipe_id, v.revision
        LIMIT 1
    ),
    vector AS (
        SELECT e.*
        FROM hubdelta.embedded AS e
        LEFT JOIN compared AS c
            ON (c.base, c.repo_id, c.subfolder, c.revision, c.recipe_id)
            = (e.base, e.repo_id, e.subfolder, e.revision, e.recipe_id)
        LEFT JOIN hubdelta.present_adapters AS m
            ON (m.base, m.repo_id, m.subfolder, m.revision)
            = (e.base, e.repo_id, e.subfolder, e.revision)
        WHERE c.base IS NOT NULL
            OR m.adapter = adapter
            OR concat_ws('/', e.repo_id, nullif(e.subfolder, '')) || '@' || e.revision = adapter
        ORDER BY c.base IS NULL, e.embedded_at DESC, e.base, e.recipe_id
        LIMIT 1
    ),
    known AS (
        SELECT m.*
        FROM hubdelta.present_adapters AS m
        LEFT JOIN vector AS v ON (v.base, v.repo_id, v.subfolder) = (m.base, m.repo_id, m.subfolder)
        WHERE v.base IS NOT NULL
            OR m.adapter = adapter
            OR m.adapter || '@' || m.revision = adapter
        ORDER BY v.base IS NULL, m.status = 'vanished', m.base
        LIMIT 1
    ),
    listed AS (
        SELECT [
            {'property': 'signal', 'value': hubdelta.digits(v.signal)},
            {'property': 'norm', 'value': hubdelta.digits(v.norm)},
            {'property': 'adapter_type', 'value': v.adapter_type},
            {'property': 'rank', 'value': v.rank::VARCHAR},
            {'property': 'alpha', 'value': hubdelta.digits(v.alpha)},
            {'property': 'target_modules', 'value': hubdelta.words(v.target_modules)},
            {'property': 'base', 'value': coalesce(v.base, m.base)},
            {'property': 'revision', 'value': coalesce(v.revision, m.revision)},
            {'property': 'recipe_id', 'value': v.recipe_id},
            {'property': 'status', 'value': m.status || coalesce(': ' || m.reason, '')},
            {'property': 'author', 'value': m.author},
            {'property': 'license', 'value': m.license},
            {'property': 'downloads', 'value': m.downloads::VARCHAR},
            {'property': 'likes', 'value': m.likes::VARCHAR},
            {'property': 'datasets', 'value': hubdelta.words(m.datasets)},
            {'property': 'languages', 'value': hubdelta.words(m.languages)},
            {'property': 'tags', 'value': hubdelta.words(m.tags)},
            {'property': 'created_at', 'value': hubdelta.minute(m.created_at)},
            {'property': 'last_modified', 'value': hubdelta.minute(m.last_modified)},
            {'property': 'cluster', 'value': c.cluster::VARCHAR},
            {'property': 'promotes', 'value': hubdelta.words(p.promotes)},
            {'property': 'suppresses', 'value': hubdelta.words(p.suppresses)}
        ] AS properties
        FROM (SELECT 1) AS always
        LEFT JOIN vector AS v ON true
        LEFT JOIN known AS m ON true
        LEFT JOIN clusters AS c ON c.base = m.base AND c.adapter = m.adapter
        LEFT JOIN promotions AS p
            ON (p.base, p.recipe_id, p.revision) = (v.base, v.recipe_id, v.revision)
            AND p.adapter = concat_ws('/', v.repo_id, nullif(v.subfolder, ''))
    )
    SELECT
        generate_subscripts(l.properties, 1) AS position,
        unnest(l.properties, recursive := true)
    FROM listed AS l;

CREATE OR REPLACE MACRO promotes(adapter) AS TABLE
    WITH newest AS (
        FROM promotions AS p
        WHERE p.adapter = adapter OR p.adapter || '@' || p.revision = adapter
        ORDER BY p.read_at DESC, p.base, p.recipe_id
        LIMIT 1
    ),
    changed AS (
        SELECT unnest(n.promotes) AS token, unnest(n.promotes_by) AS change, n.base, n.pool
        FROM newest AS n
        UNION ALL
        SELECT unnest(n.suppresses), unnest(n.suppresses_by), n.base, n.pool
        FROM newest AS n
    )
    SELECT c.token, round(c.change::DOUBLE, 4) AS change, c.base, c.pool
    FROM changed AS c
    ORDER BY c.change DESC, c.token;

CREATE OR REPLACE MACRO hubdelta.side_by_side(a, b) AS TABLE
    SELECT x.position, x.property, x.value AS a, y.value AS b
    FROM hubdelta.properties(a, b) AS x
    JOIN hubdelta.properties(b, a) AS y ON y.position = x.position
    ORDER BY x.position;

-- Properties of the pair are in both columns. If either adapter is unknown, there are no rows.
CREATE OR REPLACE MACRO compare(a, b) AS TABLE
    WITH sides AS MATERIALIZED (FROM hubdelta.side_by_side(a, b)),
    measured AS (
        SELECT similarity(a, b) AS cosine, hubdelta.obstacle(a, b) AS obstacle
    ),
    shared AS (
        SELECT
            count(*) AS adapters,
            string_agg(
                s.adapter, ', ' ORDER BY round(s.distance_to_a + s.distance_to_b, 6), s.adapter
            ) AS names
        FROM hubdelta.shared_neighbors(a, b) AS s
    ),
    together AS (
        SELECT [
            {'property': 'comparable', 'value': coalesce('no: ' || m.obstacle, 'yes')},
            {'property': 'similarity', 'value': hubdelta.digits(m.cosine)},
            {'property': 'distance', 'value': hubdelta.digits(round(1 - m.cosine, 6))},
            {'property': 'angle_degrees', 'value': hubdelta.digits(hubdelta.angle(m.cosine))},
            {'property': 'shared_neighbors', 'value': s.adapters::VARCHAR},
            {'property': 'shared_neighbor_names', 'value': s.names}
        ] AS properties
        FROM measured AS m CROSS JOIN shared AS s
    ),
    answered AS (
        SELECT 1 AS part, p.position, p.property, p.value AS left_value, p.value AS right_value
        FROM (
            SELECT
                generate_subscripts(t.properties, 1) AS position,
                unnest(t.properties, recursive := true)
            FROM together AS t
        ) AS p
        UNION ALL
        SELECT 2, d.position, d.property, d.a, d.b FROM sides AS d
    )
    SELECT r.property, r.left_value AS a, r.right_value AS b
    FROM answered AS r
    WHERE (SELECT count(d.a) > 0 AND count(d.b) > 0 FROM sides AS d)
    ORDER BY r.part, r.position;

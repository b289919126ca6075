-- The search among vectors over the cache: sketches choose candidates, exact cosines rank them, and the linkage tells which adapters chains of near neighbors join.

-- In how many of their 1,024 bits two sketches differ; each accounts for about pi/1024 of the angle
-- between the vectors (Charikar, STOC 2002).
CREATE OR REPLACE MACRO hubdelta.differing(x, y) AS
    bit_count(xor(x.b0, y.b0))::SMALLINT + bit_count(xor(x.b1, y.b1))::SMALLINT
    + bit_count(xor(x.b2, y.b2))::SMALLINT + bit_count(xor(x.b3, y.b3))::SMALLINT
    + bit_count(xor(x.b4, y.b4))::SMALLINT + bit_count(xor(x.b5, y.b5))::SMALLINT
    + bit_count(xor(x.b6, y.b6))::SMALLINT + bit_count(xor(x.b7, y.b7))::SMALLINT
    + bit_count(xor(x.b8, y.b8))::SMALLINT + bit_count(xor(x.b9, y.b9))::SMALLINT
    + bit_count(xor(x.b10, y.b10))::SMALLINT + bit_count(xor(x.b11, y.b11))::SMALLINT
    + bit_count(xor(x.b12, y.b12))::SMALLINT + bit_count(xor(x.b13, y.b13))::SMALLINT
    + bit_count(xor(x.b14, y.b14))::SMALLINT + bit_count(xor(x.b15, y.b15))::SMALLINT;

-- The most bits in which sketches of vectors at `distance`, rounded to six decimals, differ: the
-- expected number, five standard deviations, and three for when the expected number is near zero.
CREATE OR REPLACE MACRO hubdelta.half_turns(distance) AS
    acos(greatest(1 - distance - 5e-7, -1)) / pi();
CREATE OR REPLACE MACRO hubdelta.differing_within(distance) AS
    3 + 1024 * hubdelta.half_turns(distance)
    + 5 * sqrt(1024 * hubdelta.half_turns(distance) * (1 - hubdelta.half_turns(distance)));

-- hubdelta_search is a function of search/function.py: the k nearest, or all up to a distance (then
-- `k` is ignored), nearest first. It is called as plainly as possible: planning a query of several
-- levels takes as long as the search.
CREATE OR REPLACE MACRO neighbors(adapter, k := $NEIGHBORS, exact := false) AS TABLE
    SELECT unnest(
        hubdelta_search(
            adapter::VARCHAR, coalesce(k::BIGINT, 1000000000), NULL, exact::BOOLEAN
        ),
        max_depth := 2
    );

CREATE OR REPLACE MACRO within(adapter, distance := $DISTANCE, exact := false) AS TABLE
    SELECT unnest(
        hubdelta_search(adapter::VARCHAR, NULL, distance::DOUBLE, exact::BOOLEAN), max_depth := 2
    );

CREATE OR REPLACE VIEW hubdelta.linkage AS FROM cache.linkage;

-- Single linkage: the adapters of a family in the order in which Prim's algorithm visits them, and
-- the distance by which it reached each. Those joined by chains of steps up to a distance are the
-- runs between larger gaps.
CREATE OR REPLACE MACRO hubdelta.chained(base, distance) AS TABLE
    SELECT
        l.place, l.base, l.recipe_id,
        count(*) FILTER (l.gap > distance) OVER (
            PARTITION BY l.base, l.recipe_id ORDER BY l.position
        ) AS chain
    FROM hubdelta.linkage AS l
    WHERE base IS NULL OR l.base = base;

-- Two adapters within a distance are joined by steps of at most that distance, so only adapters of
-- one chain are compared.
CREATE OR REPLACE MACRO hubdelta.near_pairs(base, distance, exact) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT
            c.adapter, c.base, c.recipe_id, c.sketch, c.hidden, c.slot, c.fold,
            CASE WHEN exact THEN 0 ELSE h.chain END AS chain
        FROM hubdelta.chained(base, distance + 1e-6) AS h
        JOIN cache.sketched AS c ON c.place = h.place
    ),
    likely AS (
        SELECT
            x.adapter AS a, y.adapter AS b, x.base, x.hidden,
            x.slot AS slot_a, x.fold AS fold_a, y.slot AS slot_b, y.fold AS fold_b
        FROM members AS x
        JOIN members AS y
            ON y.base = x.base AND y.recipe_id = x.recipe_id AND y.chain = x.chain
            AND x.adapter < y.adapter
        WHERE exact
            OR hubdelta.differing(x.sketch, y.sketch) <= hubdelta.differing_within(distance)
    ),
    compared AS MATERIALIZED (
        SELECT
            l.a, l.b, l.base,
            hubdelta.cosine(
                hubdelta_delta(l.hidden, l.slot_a, l.fold_a),
                hubdelta_delta(l.hidden, l.slot_b, l.fold_b)
            ) AS similarity
        FROM likely AS l
    )
    FROM compared;

-- The domain of each adapter at a distance; domain 1 of a base is the largest, and ties are ordered
-- by their first members.
CREATE OR REPLACE MACRO hubdelta.components(base, distance := $DISTANCE) AS TABLE
    WITH members AS (
        SELECT
            c.base, c.adapter, c.repo_id, c.subfolder, c.revision, c.recipe_id, h.chain, c.place
        FROM hubdelta.chained(base, distance) AS h
        JOIN cache.sketched AS c ON c.place = h.place
    ),
    sized AS (
        SELECT
            m.base, m.recipe_id, m.chain, count(*) AS size,
            row_number() OVER (
                PARTITION BY m.base ORDER BY count(*) DESC, min(m.adapter)
            ) AS domain
        FROM members AS m
        GROUP BY m.base, m.recipe_id, m.chain
    )
    SELECT s.base, s.domain, s.size, m.adapter, m.repo_id, m.subfolder, m.revision, m.place
    FROM members AS m
    JOIN sized AS s
        ON s.base = m.base AND s.recipe_id = m.recipe_id AND s.chain = m.chain;

-- The member with the highest mean similarity to the others, represented by the first 20; sketches
-- choose the three that are compared exactly.
CREATE OR REPLACE MACRO hubdelta.most_central(base, distance) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT
            g.base, g.domain, g.adapter, s.sketch, s.hidden, s.slot, s.fold,
            row_number() OVER (PARTITION BY g.base, g.domain ORDER BY g.place) <= 20 AS speaks
        FROM hubdelta.components(base, distance := distance) AS g
        JOIN cache.sketched AS s ON s.place = g.place
    ),
    estimated AS (
        SELECT
            x.base, x.domain, x.adapter, x.hidden, x.slot, x.fold,
            avg(hubdelta.differing(x.sketch, y.sketch)) AS differing
        FROM members AS x
        LEFT JOIN members AS y
            ON y.base = x.base AND y.domain = x.domain AND y.speaks AND y.adapter <> x.adapter
        GROUP BY ALL
    ),
    chosen AS MATERIALIZED (
        FROM estimated AS e
        QUALIFY row_number() OVER (
            PARTITION BY e.base, e.domain ORDER BY e.differing, e.adapter
        ) <= 3
    ),
    compared AS (
        SELECT
            c.base, c.domain, c.adapter,
            hubdelta.cosine(
                hubdelta_delta(c.hidden, c.slot, c.fold), hubdelta_delta(m.hidden, m.slot, m.fold)
            ) AS similarity
        FROM chosen AS c
        LEFT JOIN members AS m
            ON m.base = c.base AND m.domain = c.domain AND m.speaks AND m.adapter <> c.adapter
    ),
    ranked AS (
        SELECT c.base, c.domain, c.adapter, round(avg(c.similarity), 6) AS centrality
        FROM compared AS c
        GROUP BY ALL
    )
    SELECT r.base, r.domain, first(r.adapter ORDER BY r.centrality DESC, r.adapter) AS adapter
    FROM ranked AS r
    GROUP BY r.base, r.domain;

-- Each adapter with its nearest other one in its family: the nearer end of an edge of the tree.
CREATE OR REPLACE MACRO hubdelta.nearest_of(base) AS TABLE
    WITH edges AS (
        SELECT l.place, l.parent AS other, l.gap
        FROM hubdelta.linkage AS l
        WHERE l.parent IS NOT NULL AND (base IS NULL OR l.base = base)
    ),
    ends AS (
        FROM edges AS e
        UNION ALL
        SELECT e.other, e.place, e.gap FROM edges AS e
    )
    SELECT x.base, x.adapter, min({'distance': e.gap, 'adapter': y.adapter}) AS other
    FROM ends AS e
    JOIN cache.sketched AS x ON x.place = e.place
    JOIN cache.sketched AS y ON y.place = e.other
    GROUP BY x.base, x.adapter;

-- cos(x, a + b) is the mean of cos(x, a) and cos(x, b) weighted by the norms of a and b; sketches
-- are accurate enough to choose candidates.
CREATE OR REPLACE MACRO hubdelta.near_sum(a, b, k) AS TABLE
    WITH s AS MATERIALIZED (
        SELECT
            v.*,
            sqrt(list_dot_product(v.a_delta, v.a_delta)) AS a_norm,
            sqrt(list_dot_product(v.b_delta, v.b_delta)) AS b_norm
        FROM hubdelta.sum_of(a, b) AS v
    ),
    x AS MATERIALIZED (
        SELECT c.sketch, c.family
        FROM cache.sketched AS c
        SEMI JOIN s ON (c.base, c.recipe_id, c.repo_id, c.subfolder, c.revision)
            = (s.base, s.recipe_id, s.a_repo_id, s.a_subfolder, s.a_revision)
    ),
    y AS MATERIALIZED (
        SELECT c.sketch
        FROM cache.sketched AS c
        SEMI JOIN s ON (c.base, c.recipe_id, c.repo_id, c.subfolder, c.revision)
            = (s.base, s.recipe_id, s.b_repo_id, s.b_subfolder, s.b_revision)
    ),
    candidates AS MATERIALIZED (
        SELECT c.* EXCLUDE (sketch)
        FROM cache.sketched AS c, s, x, y
        WHERE c.current AND c.family = (SELECT f.family FROM x AS f)
        ORDER BY
            s.a_norm * cos(pi() * hubdelta.differing(c.sketch, x.sketch) / 1024)
            + s.b_norm * cos(pi() * hubdelta.differing(c.sketch, y.sketch) / 1024) DESC,
            c.adapter
        LIMIT greatest(200, 20 * k) + 2
    )
    SELECT c.*, hubdelta_delta(c.hidden, c.slot, c.fold) AS delta
    FROM candidates AS c;

-- Each unlabeled adapter with every labeled one within `distance`.
CREATE OR REPLACE MACRO hubdelta.labelled_neighbors(base, distance) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT c.base, c.adapter, c.family, c.sketch, c.hidden, c.slot, c.fold, l.label
        FROM cache.sketched AS c
        LEFT JOIN labels AS l ON l.adapter = c.adapter
        WHERE c.newest AND (base IS NULL OR c.base = base)
    ),
    likely AS (
        SELECT
            x.base, x.adapter, y.adapter AS neighbor, y.label, x.hidden,
            x.slot AS slot_x, x.fold AS fold_x, y.slot AS slot_y, y.fold AS fold_y
        FROM members AS x
        JOIN members AS y ON x.label IS NULL AND y.label IS NOT NULL AND x.family = y.family
        WHERE hubdelta.differing(x.sketch, y.sketch) <= hubdelta.differing_within(distance)
    ),
    compared AS MATERIALIZED (
        SELECT
            l.base, l.adapter, l.neighbor, l.label,
            hubdelta.cosine(
                hubdelta_delta(l.hidden, l.slot_x, l.fold_x),
                hubdelta_delta(l.hidden, l.slot_y, l.fold_y)
            ) AS similarity,
            round(1 - similarity, 6) AS distance
        FROM likely AS l
    )
    SELECT c.* EXCLUDE (similarity)
    FROM compared AS c
    WHERE c.distance <= distance;

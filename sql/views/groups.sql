-- Groups of adapters that behave alike: those joined by chains of steps up to a distance or, if the
-- distance is null, the domains that the last run found and numbered (`clusters`). In a base not yet
-- clustered by a run, the distance is unclustered_distance().

-- Pools of fewer adapters are linked, at a distance that depends on the pool, instead of clustered by
-- density: FEW in vectors/density.py.
CREATE OR REPLACE MACRO hubdelta.few() AS 40;
CREATE OR REPLACE MACRO hubdelta.unclustered_distance() AS 0.22;

-- The base, or a nonexistent one if all requested adapters are in a clustered base, so that nothing
-- is compared needlessly.
CREATE OR REPLACE MACRO hubdelta.unclustered(wanted) AS (
    CASE WHEN EXISTS (
        FROM comparable AS v
        WHERE v.newest AND (wanted IS NULL OR v.base = wanted)
            AND v.base NOT IN (SELECT k.base FROM clusters AS k)
    ) THEN wanted ELSE '' END
);

CREATE OR REPLACE MACRO hubdelta.groups(base, distance) AS TABLE
    SELECT
        g.base, g.domain, g.size, g.adapter, g.repo_id, g.subfolder, g.revision,
        'linkage at ' || coalesce(distance, hubdelta.unclustered_distance()) AS method
    FROM hubdelta.components(
        if(distance IS NULL, hubdelta.unclustered(base), base),
        distance := coalesce(distance, hubdelta.unclustered_distance())
    ) AS g
    WHERE distance IS NOT NULL
        OR (g.size > 1 AND g.base NOT IN (SELECT k.base FROM clusters AS k))
    UNION ALL
    SELECT
        c.base, c.cluster, c.size, c.adapter, a.repo_id, a.subfolder, a.revision,
        if(p.adapters < hubdelta.few(), 'linkage', 'density')
    FROM clusters AS c
    JOIN hubdelta.present_adapters AS a ON a.base = c.base AND a.adapter = c.adapter
    LEFT JOIN (
        SELECT v.base, v.recipe_id, count(*) AS adapters
        FROM comparable AS v
        WHERE v.newest
        GROUP BY v.base, v.recipe_id
    ) AS p ON p.base = c.base AND p.recipe_id = c.recipe_id
    WHERE distance IS NULL AND (base IS NULL OR c.base = base);

-- The member of each group with the highest mean similarity to the others.
CREATE OR REPLACE MACRO hubdelta.central(base, distance) AS TABLE
    SELECT m.base, m.domain, m.adapter
    FROM hubdelta.most_central(
        if(distance IS NULL, hubdelta.unclustered(base), base),
        coalesce(distance, hubdelta.unclustered_distance())
    ) AS m
    WHERE distance IS NOT NULL OR m.base NOT IN (SELECT k.base FROM clusters AS k)
    UNION ALL
    SELECT c.base, c.cluster, c.adapter
    FROM clusters AS c
    WHERE distance IS NULL AND c.is_medoid AND (base IS NULL OR c.base = base);

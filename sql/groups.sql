-- Groups of adapters that do alike: those that chains of steps up to a distance join or, where the
-- distance is null, the density clusters, by their lasting numbers.

CREATE OR REPLACE MACRO hubdelta.groups(base, distance) AS TABLE
    SELECT g.base, g.domain, g.size, g.adapter, g.repo_id, g.subfolder, g.revision
    FROM hubdelta.components(base, distance := coalesce(distance, 0)) AS g
    WHERE distance IS NOT NULL
    UNION ALL
    SELECT c.base, c.cluster, c.size, c.adapter, a.repo_id, a.subfolder, a.revision
    FROM clusters AS c
    JOIN adapters AS a ON a.base = c.base AND a.adapter = c.adapter
    WHERE distance IS NULL AND (base IS NULL OR c.base = base);

-- The member of each group with the highest mean similarity to the others.
CREATE OR REPLACE MACRO hubdelta.central(base, distance) AS TABLE
    SELECT m.base, m.domain, m.adapter
    FROM hubdelta.most_central(base, coalesce(distance, 0)) AS m
    WHERE distance IS NOT NULL
    UNION ALL
    SELECT c.base, c.cluster, c.adapter
    FROM clusters AS c
    WHERE distance IS NULL AND c.is_medoid AND (base IS NULL OR c.base = base);

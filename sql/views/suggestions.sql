-- Labels for unlabeled adapters, from those of their neighbors.

-- The k nearest labeled neighbors vote. Closeness is 1 - d/distance: 1 for equal vectors, 0 at the
-- limit; a vote is its square, so that a few near neighbors outvote many far ones. Confidence is the
-- winner's share of the votes times the closeness of its nearest voter: a label is as certain as the
-- neighbors agree, and never more than the nearest of them is close.
CREATE OR REPLACE MACRO suggestions(base, k := $VOTERS, distance := $DISTANCE) AS TABLE
    WITH voters AS (
        SELECT n.*, coalesce(1 - n.distance / nullif(distance, 0), 1) AS closeness
        FROM hubdelta.labelled_neighbors(base, distance) AS n
        QUALIFY row_number() OVER (
            PARTITION BY n.base, n.adapter ORDER BY n.distance, n.neighbor
        ) <= k
    ),
    candidates AS (
        SELECT
            v.base, v.adapter, v.label, count(*) AS votes, sum(v.closeness ** 2) AS weight,
            max(v.closeness) AS closeness, min(v.distance) AS distance,
            first(v.neighbor ORDER BY v.distance, v.neighbor) AS nearest
        FROM voters AS v
        GROUP BY v.base, v.adapter, v.label
    ),
    winners AS (
        SELECT c.*, coalesce(c.weight / nullif(sum(c.weight) OVER mine, 0), 0) AS share
        FROM candidates AS c
        WINDOW mine AS (PARTITION BY c.base, c.adapter)
        QUALIFY row_number() OVER (
            mine ORDER BY round(c.weight, 9) DESC, c.distance, c.label
        ) = 1
    )
    SELECT
        w.adapter, w.label, round(w.share * w.closeness, 4) AS confidence, w.votes, w.nearest,
        w.distance, w.base
    FROM winners AS w
    ORDER BY confidence DESC, w.adapter, w.base;

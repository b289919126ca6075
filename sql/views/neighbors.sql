-- Similar adapters. Distance is cosine distance, 1 - cos, from 0 to 2; vectors of different recipes,
-- and so of different bases, are never compared. `neighbors` and `within`, and the searches behind
-- the others, are in parquet_search.sql and cache_search.sql.
-- In a macro a bare name that equals a parameter is the argument: columns are always qualified.

-- Null if the two cannot be compared. Of equally recent recipes, the one of common_vectors.
CREATE OR REPLACE MACRO similarity(a, b) AS (
    SELECT first(
        hubdelta.cosine(x.delta, y.delta)
        ORDER BY least(x.embedded_at, y.embedded_at) DESC, x.base, x.recipe_id,
            x.revision, y.revision
    )
    FROM hubdelta.vectors_of(a) AS x
    JOIN hubdelta.vectors_of(b) AS y ON y.recipe_id = x.recipe_id AND y.base = x.base
);

-- Every pair of adapters of one base (null: of each base) within `distance`, each by its newest
-- recipe.
CREATE OR REPLACE MACRO pairs(base, distance := $LARGEST_DISTANCE, exact := false) AS TABLE
    SELECT p.a, p.b, p.similarity, round(1 - p.similarity, 6) AS distance, p.base
    FROM hubdelta.near_pairs(base, distance, exact) AS p
    WHERE round(1 - p.similarity, 6) <= distance;

CREATE OR REPLACE MACRO duplicates(base, distance := $DUPLICATE_DISTANCE, exact := false) AS TABLE
    SELECT p.* FROM pairs(base, distance := distance, exact := exact) AS p
    ORDER BY p.distance, p.a, p.b;

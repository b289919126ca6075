-- The stored tables from the Parquet files themselves. `hubdelta.files(name)` gives the files of a
-- table; it is defined by the caller. Every table has at least a file without rows, and files of
-- older versions lack the newer columns, which read as null. If a table has a folder for each base,
-- the folder's name holds the column `base`.

CREATE OR REPLACE MACRO hubdelta.base_in(file) AS
    url_decode(regexp_extract(file, '/base=([^/]*)/[^/]*$', 1));

CREATE OR REPLACE MACRO hubdelta.stored(name) AS TABLE
    FROM read_parquet(hubdelta.files(name), union_by_name => true, hive_partitioning => false);

CREATE OR REPLACE MACRO hubdelta.stored_by_base(name) AS TABLE
    SELECT hubdelta.base_in(s.filename) AS base, s.* EXCLUDE (filename)
    FROM read_parquet(
        hubdelta.files(name), union_by_name => true, hive_partitioning => false, filename => true
    ) AS s;

-- `base` comes last but one level up, since DuckDB 1.3 confuses the columns after it.
CREATE OR REPLACE VIEW hubdelta.stored_vectors AS
SELECT p.base, p.* EXCLUDE (base)
FROM (
    SELECT
        s.* EXCLUDE (filename, file_row_number),
        {'file': s.filename, 'row': s.file_row_number} AS place,
        hubdelta.base_in(s.filename) AS base
    FROM read_parquet(
        hubdelta.files('vectors'), union_by_name => true, hive_partitioning => false,
        filename => true, file_row_number => true
    ) AS s
) AS p;

CREATE OR REPLACE VIEW hubdelta.stored_facts AS
SELECT s.* EXCLUDE (delta) FROM hubdelta.stored_vectors AS s;

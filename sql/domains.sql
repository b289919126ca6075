-- Domains: connected components of the graph that joins adapters closer than a distance.

-- Each adapter starts with its own number as label and takes the smallest of its neighbors'
-- until none changes; USING KEY keeps one row an adapter, and `recurring` is that whole table.
-- Domain 1 is the largest; equally large ones follow the alphabet of their first members.
CREATE OR REPLACE MACRO hubdelta.components(base, distance := 0.25) AS TABLE
    WITH RECURSIVE members AS MATERIALIZED (
        SELECT
            c.* REPLACE (c.delta::DOUBLE[] AS delta),
            row_number() OVER (ORDER BY c.base, c.adapter) AS number
        FROM comparable AS c
        WHERE c.newest AND (base IS NULL OR c.base = base)
    ),
    edges AS MATERIALIZED (
        SELECT x.number AS source, y.number AS target
        FROM pairs(base, distance := distance) AS p
        JOIN members AS x ON x.adapter = p.a AND x.base = p.base
        JOIN members AS y ON y.adapter = p.b AND y.base = p.base
    ),
    links AS MATERIALIZED (
        SELECT e.source, e.target FROM edges AS e
        UNION ALL
        SELECT e.target, e.source FROM edges AS e
    ),
    labelled(number, label) USING KEY (number) AS (
        SELECT m.number, m.number FROM members AS m
        UNION
        SELECT known.number, min(changed.label)
        FROM labelled AS changed
        JOIN links AS l ON l.source = changed.number
        JOIN recurring.labelled AS known ON known.number = l.target
        WHERE changed.label < known.label
        GROUP BY known.number
    ),
    sized AS (
        SELECT m.base, g.label, count(*) AS size
        FROM labelled AS g JOIN members AS m ON m.number = g.number
        GROUP BY m.base, g.label
    ),
    ordered AS (
        SELECT s.*, row_number() OVER (
            PARTITION BY s.base ORDER BY s.size DESC, s.label
        ) AS domain
        FROM sized AS s
    )
    SELECT m.base, o.domain, o.size, m.adapter, m.repo_id, m.subfolder, m.revision, m.delta
    FROM ordered AS o
    JOIN labelled AS g ON g.label = o.label
    JOIN members AS m ON m.number = g.number;

-- All pairs of every base are computed when this is read.
CREATE OR REPLACE VIEW clusters AS
SELECT c.base, c.domain AS cluster, c.size, c.adapter, c.repo_id, c.subfolder, c.revision
FROM hubdelta.components(NULL) AS c
ORDER BY c.base, c.domain, c.adapter;

COMMENT ON VIEW clusters IS
    'The cluster of each adapter of each base: its domain at distance 0.25';
COMMENT ON COLUMN clusters.base IS 'base model that was crawled, ORG/NAME';
COMMENT ON COLUMN clusters.cluster IS 'number of the cluster in its base; 1 is the largest';
COMMENT ON COLUMN clusters.size IS 'adapters in the cluster [adapters]';
COMMENT ON COLUMN clusters.adapter IS
    'org/name[/subfolder], or a local folder: what the macros take';
COMMENT ON COLUMN clusters.repo_id IS 'repository, ORG/NAME, or a local folder''s path';
COMMENT ON COLUMN clusters.subfolder IS 'folder that holds the adapter; empty for the root';
COMMENT ON COLUMN clusters.revision IS '40-hex commit of the repository';

-- Tags that libraries and the Hub add by themselves; they say how a model was made, not for what.
-- A tag with a colon (base_model:, license:, region:, dataset:, arxiv:) is always one of them,
-- and a word of two letters is a language.
CREATE OR REPLACE MACRO hubdelta.is_boilerplate(tag) AS
    contains(tag, ':') OR length(tag) <= 2 OR list_contains([
        '4-bit', '4bit', '8-bit', '8bit', 'adapter', 'adapters', 'autotrain',
        'autotrain_compatible', 'awq', 'axolotl', 'base', 'bf16', 'bitsandbytes', 'bnb', 'chat',
        'checkpoint', 'conversational', 'custom_code', 'deepspeed', 'delta', 'dora', 'dpo',
        'endpoints_compatible', 'eval-results', 'final', 'fine-tuned', 'fine-tuning', 'finetune',
        'finetuned', 'finetuning', 'fp16', 'full', 'generated_from_trainer', 'gguf', 'gptq', 'grpo',
        'instruct', 'it', 'llama-factory', 'llm', 'lora', 'merged', 'mlx', 'model',
        'model_hub_mixin', 'models', 'multilingual', 'onnx', 'openvino', 'orpo', 'peft', 'pytorch',
        'pytorch_model_hub_mixin', 'qlora', 'safetensors', 'sft', 'tensorboard', 'test',
        'text-generation', 'text-generation-inference', 'transformers', 'trl', 'unsloth'
    ], lower(tag));

-- A domain's name is what sets it apart: up to two of the datasets and tags that its members
-- declare, those with the largest share inside less the share among all other adapters of the
-- base. Words of repository names stand in where less than half of the members declare anything
-- in common. The central member is that with the highest mean similarity to the others: its unit
-- vector times the sum of theirs, in float64, so that ties stay ties.
CREATE OR REPLACE MACRO domains(base, distance := 0.25) AS TABLE
    WITH members AS MATERIALIZED (
        SELECT
            g.*, sqrt(list_dot_product(g.delta, g.delta)) AS norm,
            count(*) OVER (PARTITION BY g.base) - g.size AS others
        FROM hubdelta.components(base, distance := distance) AS g
    ),
    coordinates AS (
        SELECT
            m.base, m.domain, generate_subscripts(m.delta, 1) AS i,
            unnest(m.delta) / m.norm AS x
        FROM members AS m
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
            m.base, m.domain, m.size, m.adapter,
            round(list_dot_product(m.delta, t.total) / m.norm, 9) AS centrality
        FROM members AS m
        JOIN totals AS t ON t.base = m.base AND t.domain = m.domain
    ),
    summaries AS (
        SELECT
            r.base, r.domain, any_value(r.size) AS size,
            first(r.adapter ORDER BY r.centrality DESC, r.adapter) AS central,
            list(r.adapter ORDER BY r.adapter) AS members
        FROM ranked AS r
        GROUP BY r.base, r.domain
    ),
    declared AS (
        SELECT
            m.base, m.domain, m.size, m.others, m.adapter, a.datasets,
            [lower(tag) FOR tag IN a.tags
                IF NOT hubdelta.is_boilerplate(tag)
                AND NOT coalesce(list_contains(a.languages, tag), false)
                AND tag IS DISTINCT FROM a.library_name
                AND tag IS DISTINCT FROM a.pipeline_tag] AS tags,
            [word FOR word IN regexp_split_to_array(
                    lower(concat_ws('-', split_part(m.repo_id, '/', -1), m.subfolder)), '[^\pL\pN]+'
                )
                IF NOT hubdelta.is_boilerplate(word)
                AND NOT regexp_full_match(word, '[a-z]{0,2}\d+[a-z]{0,2}')
                AND NOT list_contains(regexp_split_to_array(lower(m.base), '[^\pL\pN]+'), word)
            ] AS words
        FROM members AS m
        LEFT JOIN adapters AS a
            ON (a.base, a.repo_id, a.subfolder) = (m.base, m.repo_id, m.subfolder)
    ),
    terms AS (
        SELECT d.base, d.domain, d.size, d.others, d.adapter, unnest(d.datasets) AS term, 1 AS kind
        FROM declared AS d
        UNION ALL
        SELECT d.base, d.domain, d.size, d.others, d.adapter, unnest(d.tags), 2 FROM declared AS d
        UNION ALL
        SELECT d.base, d.domain, d.size, d.others, d.adapter, unnest(d.words), 3 FROM declared AS d
    ),
    held AS (
        SELECT
            t.base, t.domain, t.term, min(t.kind) AS kind,
            count(DISTINCT t.adapter) AS inside,
            sum(count(DISTINCT t.adapter)) OVER (PARTITION BY t.base, t.term) AS everywhere,
            any_value(t.size) AS size, any_value(t.others) AS others
        FROM terms AS t
        GROUP BY t.base, t.domain, t.term
    ),
    scored AS (
        SELECT
            h.base, h.domain, h.term, h.kind, 2 * h.inside >= h.size AS common,
            h.inside / h.size
                - coalesce((h.everywhere - h.inside) / nullif(h.others, 0), 0) AS score
        FROM held AS h
    ),
    placed AS (
        SELECT s.*, row_number() OVER (
            PARTITION BY s.base, s.domain
            ORDER BY s.common DESC, s.kind = 3, round(s.score, 9) DESC, s.kind, s.term
        ) AS place
        FROM scored AS s
        WHERE s.score > 0
    ),
    names AS (
        SELECT p.base, p.domain, string_agg(p.term, ', ' ORDER BY p.place) AS name
        FROM placed AS p
        WHERE p.place = 1 OR (p.place = 2 AND p.common AND p.kind < 3)
        GROUP BY p.base, p.domain
    )
    SELECT s.domain, coalesce(n.name, s.central) AS name, s.size, s.central, s.members, s.base
    FROM summaries AS s
    LEFT JOIN names AS n ON n.base = s.base AND n.domain = s.domain
    ORDER BY s.base, s.domain;
COMMENT ON MACRO TABLE domains IS
    'Domains of a base (null: of each base): number, name, size, most central member, members';

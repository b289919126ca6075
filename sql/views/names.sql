-- Names of domains: what distinguishes the members of one from all other adapters of the base.

-- What a term is worth by its source: a dataset is a fact, a word of a card an aside.
CREATE OR REPLACE MACRO hubdelta.worth(source) AS
    CASE source WHEN 'dataset' THEN 4 WHEN 'tag' THEN 3 WHEN 'name' THEN 2 ELSE 1 END;

-- Adapters that have a term, as a frequency: n of one author count as 1 + ln n, so that no one
-- author's series of uploads dominates a name.
CREATE OR REPLACE MACRO hubdelta.frequency(worth, n) AS worth * (1 + ln(n));

-- Each domain with its members and the terms that distinguish it, best first.
--
-- Class-based TF-IDF (Grootendorst 2022, arXiv 2203.05794): W(t, c) = tf(t, c) log(1 + A / f(t)),
-- f(t) the frequency of t in all classes together, A the mean over classes of the sum of their
-- frequencies. A class is a domain; domains of a single member and adapters in no domain (null)
-- together form one class, the rest.
-- Terms no more frequent inside than outside distinguish nothing. If members share terms, those of
-- one member alone come after them.
CREATE OR REPLACE MACRO hubdelta.summaries(base, distance) AS TABLE
    WITH grouped AS MATERIALIZED (
        SELECT g.base, g.domain, g.size, g.method, g.adapter, g.repo_id
        FROM hubdelta.groups(base, distance) AS g
    ),
    everybody AS (
        FROM grouped
        UNION ALL
        SELECT v.base, NULL, 1, NULL, v.adapter, v.repo_id
        FROM comparable AS v
        ANTI JOIN grouped AS g ON g.base = v.base AND g.adapter = v.adapter
        WHERE v.newest AND (base IS NULL OR v.base = base)
    ),
    members AS MATERIALIZED (
        SELECT
            e.base, e.domain, e.size, e.method, e.adapter, split_part(e.repo_id, '/', 1) AS author,
            if(e.size > 1, e.domain, 0) AS class,
            count(*) OVER (PARTITION BY e.base) - e.size AS others
        FROM everybody AS e
    ),
    held AS MATERIALIZED (
        SELECT m.*, t.term, t.source, hubdelta.worth(t.source) AS worth
        FROM members AS m
        JOIN hubdelta.terms AS t ON t.base = m.base AND t.adapter = m.adapter
    ),
    everywhere AS (
        SELECT
            a.base, a.term, sum(a.frequency) AS frequency, sum(a.adapters) AS adapters,
            sum(sum(a.frequency)) OVER (PARTITION BY a.base) AS total
        FROM (
            SELECT
                h.base, h.term, count(*) AS adapters,
                hubdelta.frequency(max(h.worth), count(*)) AS frequency
            FROM held AS h
            GROUP BY h.base, h.class, h.term, h.author
        ) AS a
        GROUP BY a.base, a.term
    ),
    inside AS (
        SELECT
            a.base, a.domain, a.size, a.others, a.term, max_by(a.source, a.worth) AS source,
            sum(a.frequency) AS frequency, sum(a.adapters) AS adapters
        FROM (
            SELECT
                h.base, h.domain, h.size, h.others, h.term, max(h.worth) AS worth,
                max_by(h.source, h.worth) AS source, count(*) AS adapters,
                hubdelta.frequency(max(h.worth), count(*)) AS frequency
            FROM held AS h
            GROUP BY h.base, h.domain, h.size, h.others, h.term, h.author
        ) AS a
        GROUP BY a.base, a.domain, a.size, a.others, a.term
    ),
    classes AS (
        SELECT m.base, count(DISTINCT m.class) AS classes FROM members AS m GROUP BY m.base
    ),
    weighed AS (
        SELECT
            i.base, i.domain, i.term, i.source, i.adapters AS inside,
            e.adapters - i.adapters AS outside, i.adapters > 1 OR i.size = 1 AS is_shared,
            round(i.frequency * ln(1 + e.total / c.classes / e.frequency), 6) AS weight
        FROM inside AS i
        JOIN everywhere AS e ON e.base = i.base AND e.term = i.term
        JOIN classes AS c ON c.base = i.base
        WHERE i.others = 0 OR i.adapters / i.size > (e.adapters - i.adapters) / i.others
    ),
    placed AS (
        SELECT
            w.*, max(w.is_shared) OVER domains AS some_shared,
            row_number() OVER (domains ORDER BY w.is_shared DESC, w.weight DESC, w.term) AS place
        FROM weighed AS w
        WINDOW domains AS (PARTITION BY w.base, w.domain)
        QUALIFY place <= 10
    ),
    labeled AS (
        SELECT
            c.*, c.inside / sum(c.inside) OVER domains AS share,
            sum(c.inside) OVER (PARTITION BY c.base, c.label) - c.inside AS outside,
            row_number() OVER (domains ORDER BY c.inside DESC, c.label) AS place
        FROM (
            SELECT m.base, m.domain, l.label, count(*) AS inside
            FROM members AS m JOIN labels AS l ON l.adapter = m.adapter
            GROUP BY m.base, m.domain, l.label
        ) AS c
        WINDOW domains AS (PARTITION BY c.base, c.domain)
    ),
    evidence AS (
        SELECT
            l.base, l.domain, 0 AS rank, l.place, l.label AS term, 'label' AS source, l.inside,
            l.outside, NULL AS weight, l.place = 1 OR (l.place = 2 AND l.share >= 0.25) AS in_name
        FROM labeled AS l
        UNION ALL
        SELECT
            p.base, p.domain, 1, p.place, p.term, p.source, p.inside, p.outside, p.weight,
            p.place <= 3 AND p.is_shared = p.some_shared
        FROM placed AS p
    ),
    terms AS (
        SELECT
            e.base, e.domain,
            string_agg(e.term, ' + ' ORDER BY e.place) FILTER (e.in_name AND e.rank = 0) AS label,
            string_agg(e.term, ', ' ORDER BY e.place) FILTER (e.in_name AND e.rank = 1) AS terms,
            list({
                'term': e.term, 'source': e.source, 'inside': e.inside::BIGINT,
                'outside': e.outside::BIGINT, 'weight': e.weight
            } ORDER BY e.rank, e.place) AS evidence
        FROM evidence AS e
        GROUP BY e.base, e.domain
    ),
    sets AS (
        SELECT
            m.base, m.domain, any_value(m.size) AS size, any_value(m.method) AS method,
            list(m.adapter ORDER BY m.adapter) AS members
        FROM members AS m
        WHERE m.domain IS NOT NULL
        GROUP BY m.base, m.domain
    )
    SELECT
        s.base, s.domain, s.size, s.method, s.members, coalesce(t.label, t.terms) AS name,
        coalesce(t.evidence, []) AS evidence
    FROM sets AS s
    LEFT JOIN terms AS t ON t.base = s.base AND t.domain = s.domain;

CREATE OR REPLACE MACRO domains(base, distance := NULL) AS TABLE
    SELECT
        s.domain, coalesce(s.name, c.adapter) AS name, s.size, c.adapter AS central, s.members,
        s.base, s.method
    FROM hubdelta.summaries(base, distance) AS s
    JOIN hubdelta.central(base, distance) AS c ON c.base = s.base AND c.domain = s.domain
    ORDER BY s.base, s.size DESC, s.domain;

CREATE OR REPLACE MACRO domain_terms(base, distance := NULL) AS TABLE
    SELECT
        e.base, e.domain, e.term.term, e.term.source, e.term.inside, e.term.outside,
        e.term.weight, e.place
    FROM (
        SELECT
            s.base, s.domain, unnest(s.evidence) AS term,
            generate_subscripts(s.evidence, 1) AS place
        FROM hubdelta.summaries(base, distance) AS s
    ) AS e
    ORDER BY e.base, e.domain, e.place;

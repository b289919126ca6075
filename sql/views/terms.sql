-- What each adapter's author says it is for: datasets, tags, and words of names and cards.

-- Tags that libraries and the Hub add automatically; they say how a model was made, not what for.
-- A tag with a colon (base_model:, license:, region:, dataset:, arxiv:) is always one of them,
-- and a two-letter word is a language.
CREATE OR REPLACE MACRO hubdelta.is_boilerplate(tag) AS
    contains(tag, ':') OR length(tag) <= 2 OR list_contains([
        '4-bit', '4bit', '8-bit', '8bit', 'adapter', 'adapters', 'autotrain',
        'autotrain_compatible', 'awq', 'axolotl', 'base', 'bf16', 'bitsandbytes', 'bnb', 'chat',
        'checkpoint', 'conversational', 'custom_code', 'deepspeed', 'delta', 'dora', 'dpo',
        'endpoints_compatible', 'eval-results', 'final', 'fine-tuned', 'fine-tuning', 'finetune',
        'finetuned', 'finetuning', 'fp16', 'full', 'generated_from_trainer', 'gguf', 'gptq', 'grpo',
        'instruct', 'it', 'llama-factory', 'llm', 'lora', 'merged', 'mlx', 'model',
        'model_hub_mixin', 'models', 'multilingual', 'onnx', 'openvino', 'orpo', 'output',
        'outputs', 'peft', 'pytorch', 'pytorch_model_hub_mixin', 'qlora', 'run', 'runs',
        'safetensors', 'sft', 'tensorboard', 'test', 'text-generation',
        'text-generation-inference', 'transformers', 'trl', 'unsloth'
    ], lower(tag));

-- English words without content.
CREATE OR REPLACE VIEW hubdelta.function_words AS
SELECT unnest(regexp_split_to_array('
    able about above across after afterwards again against all almost alone along already also
    although always among and another any anyhow anyone anything anyway anywhere are aren around
    back became because become been before behind being below beside besides between beyond both
    but call can cannot cant could didn does doesn doing don done down due during each eight
    either eleven else elsewhere enough etc even ever every everyone everything everywhere except
    far few fifteen fifty first five for former formerly forty found four from further get gets
    gives going good had has have having hence her here hereby hers herself him himself his how
    however hundred indeed into isn its itself just keep kind last least less let lets like look
    looks made make makes making many may meanwhile might more moreover most mostly much must
    myself name namely need needed needs neither never nevertheless new next nine nobody none
    noone nor not note notes nothing now nowhere off often once one only onto other others
    otherwise our ours ourselves out over own part per perhaps please put rather really right same
    second see seem seemed seeming seems several shall she should show since six sixty some
    somehow someone something sometime sometimes somewhere still such sure take taken takes ten
    than thank thanks that the their them themselves then there therefore these they thing things
    third this those though three through throughout thus together too top toward towards twelve
    twenty two under until upon very via was wasn way welcome well were what whatever when
    whenever where wherever whether which while who whose why will with within without won would
    wrong yet you your yours yourself
', '\s+')) AS word;

-- Words in most cards, whatever the model: those of huggingface_hub's ModelCard template, and what
-- trainers write.
CREATE OR REPLACE VIEW hubdelta.card_words AS
SELECT unnest(regexp_split_to_array('
    accelerate accelerator accumulation achieved achieves adam adamw adapter adapters additional
    agpl alpha apa apache architecture args attention author authors autotrain available aware awq
    axolotl base based baseline batch benchmark benchmarks best betas bias biases bibtex
    bitsandbytes bsd built calculator called carbon card cards checkpoint checkpoints citation
    clause cloud code commercial compute config configuration contact contains copyright cosine
    cpu created cuda current cut data dataset datasets deepspeed default demo description details
    developed developer developers device different direct download downstream dropout early
    emissions emitted entry environmental epoch epochs epsilon estimated eval evaluate evaluated
    evaluation examination example examples expect experiment experimental face factors failed
    false fast faster feel file files final fine finetune finetuned finetunes finetuning following
    follows format formats framework free full funded generate generated generates generating
    generation gguf glossary gpl gpu gradient gradients hardware help helpful hidden hours hugging
    huggingface hyperparameter hyperparameters impact inference information infrastructure initial
    input inputs install instruct instruction instructions intended known labs lacoste language
    large lead learn learning len lgpl library licence license licensed licenses licensing
    limitations limited limits linear link links llm llms load loaded local log logs loop lora
    loss low machine main max maximum memory merge merged method metrics min mit mixed model
    module modules names native nlp norm num number objective optimal optimized optimizer optional
    order org original output outputs overview package paper parameter parameters peft performance
    performs pip platform precision prediction predictions prepared preprocessing presented
    private probabilities procedure process produced project prompt prompts provided provider
    public purpose purposes pypi pytorch qlora quality quantization quantized quick rank rate
    ratio readme recipe recommendations recommended regime region release released repo report
    reports repository request requests required requirements response responses result results
    rights risks rope rslora run running runs safetensors sample samples save saved scheduler
    scope script seed seeds sequence set sets settings setup sft shared size sizes small software
    source sources specific specifications speeds split splits start started step steps strategy
    style summary supervised support supported supports table tags target targets task tasks
    technical template terms test tested testing tests text time times token tokenizer tokenizers
    tokens tool torch total trained trainer training transformers trl true tune tuned tuning type
    unknown unsloth update updated upload uploaded usage use used user users uses using validation
    value values various version versions visualize wandb warmup weight weighted weights work
    works write writes zero
', '\s+')) AS word;

-- A card's words consist of letters only: 'k_proj', '135m' and '2e' do not count. Words of the names
-- of the base, the author and the datasets' authors say whose it is, not what it is for. A term from
-- several sources counts for the strongest: dataset, tag, name, card. A card says what it is about on
-- its first page; the rest is about usage, license and method.
CREATE OR REPLACE VIEW hubdelta.terms AS
WITH embedded AS (
    SELECT
        e.base, e.repo_id, e.subfolder,
        max_by(e.card, (e.embedded_at, e.recipe_id)) AS card
    FROM hubdelta.embedded AS e
    GROUP BY e.base, e.repo_id, e.subfolder
),
described AS MATERIALIZED (
    SELECT
        e.base, concat_ws('/', e.repo_id, nullif(e.subfolder, '')) AS adapter,
        lower(regexp_replace(left(e.card || ' ', 2000), '\S+$', '')) AS card,
        lower(concat_ws('-', split_part(e.repo_id, '/', -1), e.subfolder)) AS name,
        regexp_split_to_array(lower(concat_ws('/',
            e.base, split_part(e.repo_id, '/', 1),
            array_to_string([split_part(d, '/', 1) FOR d IN a.datasets], '/')
        )), '[^\pL\pM\pN]+') AS owners,
        a.datasets, a.tags, a.languages, a.library_name, a.pipeline_tag
    FROM embedded AS e
    LEFT JOIN hubdelta.present_adapters AS a
        ON (a.base, a.repo_id, a.subfolder) = (e.base, e.repo_id, e.subfolder)
),
tags AS (
    SELECT d.base, d.adapter, d.languages, d.library_name, d.pipeline_tag, unnest(d.tags) AS tag
    FROM described AS d
),
names AS (
    SELECT
        d.base, d.adapter, d.owners,
        unnest(regexp_split_to_array(d.name, '[^\pL\pM\pN]+')) AS word
    FROM described AS d
),
cards AS (
    SELECT
        d.base, d.adapter, d.owners,
        unnest(list_distinct(regexp_extract_all(d.card, '[\pL\pM\pN_]+'))) AS word
    FROM described AS d
),
declared AS (
    SELECT d.base, d.adapter, unnest(d.datasets) AS term, 1 AS strength
    FROM described AS d
    UNION ALL
    SELECT t.base, t.adapter, lower(t.tag), 2
    FROM tags AS t
    WHERE NOT hubdelta.is_boilerplate(t.tag)
        AND NOT coalesce(list_contains(t.languages, t.tag), false)
        AND t.tag IS DISTINCT FROM t.library_name
        AND t.tag IS DISTINCT FROM t.pipeline_tag
    UNION ALL
    SELECT n.base, n.adapter, n.word, 3
    FROM names AS n
    ANTI JOIN hubdelta.function_words AS f ON f.word = n.word
    WHERE NOT hubdelta.is_boilerplate(n.word)
        AND NOT regexp_full_match(n.word, '[a-z]{0,2}\d+[a-z]{0,2}')
        AND NOT list_contains(n.owners, n.word)
    UNION ALL
    SELECT c.base, c.adapter, c.word, 4
    FROM cards AS c
    ANTI JOIN hubdelta.function_words AS f ON f.word = c.word
    ANTI JOIN hubdelta.card_words AS b ON b.word = c.word
    WHERE length(c.word) BETWEEN 3 AND 30
        AND NOT regexp_matches(c.word, '[\pN_]')
        AND NOT list_contains(c.owners, c.word)
)
SELECT
    d.base, d.adapter, d.term, ['dataset', 'tag', 'name', 'card'][min(d.strength)] AS source
FROM declared AS d
GROUP BY d.base, d.adapter, d.term;

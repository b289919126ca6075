"""How well embedding spaces tell labeled adapters apart: the paper's table, re-runnable.

spaces.py       the spaces: what each is, and where its definition comes from
labels.py       which label each adapter has, and which labels can be scored
members.py      the adapters of a base that have comparable vectors
scores.py       silhouettes with intervals, retrieval, adjusted Rand index
evaluate.py     a row of scores for each space
kept.py, gaps.py    what the index keeps of a space, and what it lacks
compute.py      computing what it lacks
obtain.py       adapters, fetched again
factors.py      LoRA factors of many adapters, read a layer at a time
gram.py, similarity.py  inner products of factors; cosines from inner products
promoted.py     inner products of the changes of logits
salient.py      masks of the weights that change most
pictures.py     silhouettes and t-SNE, as PNG and SVG
paper_files.py  the files that the paper's release writes
answers.py      answers to the probes, embedded by a sentence model
"""

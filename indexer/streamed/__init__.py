"""The streamed engine: whole models of any size, of which two layers are in memory at a time.

`checkpoint` reads tensors where they lie, `naming` says which of them make which parameter,
`skeleton` is the model that they go into, `stream` puts them in and takes them out as it runs, and
`engine` compares a finetune with its base.
"""

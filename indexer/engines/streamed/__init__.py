"""The streamed engine: whole models of any size, of which two layers are in memory at a time.

`checkpoint` reads tensors where they lie, `quantization` tells in what format, `dequantization`
multiplies them out, `naming` says which of them make which parameter and `leftovers` what to think
of the others, `skeleton` is the model that they go into, `stream` puts them in and takes them out
as it runs, and `engine` compares a finetune with its base.
"""

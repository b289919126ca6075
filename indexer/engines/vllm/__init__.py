"""The vLLM engine: for bases that need several GPUs or kernels for quantized weights.

engine.py       the engine
pooler.py       vLLM in this process, returning hidden states of probes
adapter_files.py    adapters as files that vLLM reads
noise.py        how far rounding alone moves a delta
support.py      which bases and adapters it computes exactly
"""

"""The vLLM engine: for bases that need several GPUs or kernels for quantized weights."""

"""How adapters change the modules of their base, read from their tensors, for every engine.

edits.py        the few forms that batch well
reading.py      from tensors to edits
site.py         one module with an adapter's tensors for it
methods.py      the PEFT methods, each for one module
factored_methods.py, whole_methods.py   those whose ΔW is kept in factors, and those that need all
parameters.py   LoRA of single parameters, such as experts
block_edits.py  LoRA of adapters read as blocks, found once for all that are alike
support.py      which adapters these forms represent exactly
manifest.py     which tensors an adapter must have
structure.py, norms.py      modules and their shapes; norms of W + ΔW
"""

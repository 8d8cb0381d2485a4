"""Built-in Triton kernels, found through the entry point ``triton``."""

from importlib import import_module
from pkgutil import walk_packages

for _module in walk_packages(__path__, __name__ + "."):
    import_module(_module.name)

"""The normative layer: every algorithm as data and formulas. NumPy at most."""

if __name__ != "kernelproof.spec":
    raise ImportError(
        f"this folder is the package kernelproof.spec, but was imported as {__name__!r}: "
        "install the project (pip install .) and import kernelproof.spec from another folder"
    )

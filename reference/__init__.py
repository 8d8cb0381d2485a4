"""Slow, exact definitions: one short NumPy function (or class) per algorithm."""

if __name__ != "kernelproof.reference":
    raise ImportError(
        f"this folder is the package kernelproof.reference, but was imported as {__name__!r}: "
        "install the project (pip install .) and import kernelproof.reference from another folder"
    )

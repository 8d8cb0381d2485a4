"""Registration of implementations, and the built-in ones."""

if __name__ != "kernelproof.impls":
    raise ImportError(
        f"this folder is the package kernelproof.impls, but was imported as {__name__!r}: "
        "install the project (pip install .) and import kernelproof.impls from another folder"
    )

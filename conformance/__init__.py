"""The suite: pytest plugin, generic checks, judge, worker, command line."""

if __name__ != "kernelproof.conformance":
    raise ImportError(
        f"this folder is the package kernelproof.conformance, but was imported as {__name__!r}: "
        "install the project (pip install .) and import kernelproof.conformance from another folder"
    )

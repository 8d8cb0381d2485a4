"""Planted bugs as edits of the built-in implementations: what the suite must catch in real code.

``edits/triton/attention/flash.py`` edits ``impls/triton/attention/flash.py``, and so on.
"""

"""What decoding attention is: one query per sequence, keys of given lengths, splits merged."""

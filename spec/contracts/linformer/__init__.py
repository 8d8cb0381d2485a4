"""What attention over projected keys is judged by."""

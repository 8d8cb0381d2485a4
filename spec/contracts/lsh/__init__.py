"""What LSH attention is: buckets of tokens, sorted and cut into chunks, round by round."""

"""What orthogonal random features share."""

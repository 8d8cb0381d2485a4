"""What orthogonal random features are judged by."""

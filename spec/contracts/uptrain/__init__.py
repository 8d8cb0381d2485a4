"""What uptraining is judged by."""

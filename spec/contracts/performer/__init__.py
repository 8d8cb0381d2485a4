"""What attention through random features is judged by."""

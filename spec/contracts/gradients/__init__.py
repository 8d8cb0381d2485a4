"""What gradients of attention share."""

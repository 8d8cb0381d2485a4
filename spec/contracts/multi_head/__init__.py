"""What attention layers share: projections around a softmax attention."""

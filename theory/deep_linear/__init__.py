"""Deep linear networks and high-dimensional linear learning dynamics."""

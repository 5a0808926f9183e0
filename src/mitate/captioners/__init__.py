"""What writes text about an image."""

"""What the notebooks import. It holds no lesson."""

"""Real containers: broker and store as they are in production, harmed as they are there too."""

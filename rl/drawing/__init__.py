"""Pictures of one episode: SVG for a page, text for a terminal."""

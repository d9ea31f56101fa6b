"""What a stream is, and how it crosses a wire. Imports neither torch nor the two programs."""

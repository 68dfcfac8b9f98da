"""Pictures: uploads to pixels and metadata, and pixels to files."""

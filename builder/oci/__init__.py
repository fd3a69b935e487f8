"""Images by name, and as OCI archives: read and written."""

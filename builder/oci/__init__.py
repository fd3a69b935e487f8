"""Images: references to them (image_reference), and OCI archives, written and read (image_archive)."""
